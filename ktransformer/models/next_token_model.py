"""The base of the models that write text: a decoder, and the projection to the next token."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers import DecoderBlock, DecoderState, PositionalEmbedding
from ktransformer.layers.overrides import check_overrides
from ktransformer.layers.projection import Projection
from ktransformer.layers.tensors import Ids, Logits, Size, Vectors
from ktransformer.models.decoder import Decoder
from ktransformer.models.text_model import TextModel


class NextTokenModel(TextModel):
    """A `TextModel` that predicts each token from those before it.

    A subclass sets `target_embedding`, `output_embedding` and `decoder`, and has `hidden_states`
    and `step`.

    Args:
        vocabulary_size: V, the number of ids.
        tie_embeddings: Whether the table of the embedding is the output projection as well.
        output_bias: Whether the output projection has a bias, of the weight `output_bias`, `[V]`.
        **options: Arguments of `TextModel`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        tie_embeddings: bool = True,
        output_bias: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary_size, **options)
        self.tie_embeddings = tie_embeddings
        self.output_bias = output_bias
        self.output_bias_weight: Any = None  # [V], from `build` on, with an `output_bias`.

    def make_output_projection(self) -> keras.layers.Layer:
        """Creates the output projection of a model whose embeddings are not tied.

        Override it for another layer `[..., D] -> [..., V]`. One that is not a `Projection` without
        bias and activation trains on all logits, and cannot decode with `output_columns`.
        """
        return Projection(
            self.vocabulary_size, use_bias=False, dtype=self.dtype_policy, name="output"
        )

    def _build_output(self) -> None:
        """Creates the weights of the output projection beside a shared table."""
        if not self.tie_embeddings:
            self.output_embedding.build((None, None, self.d_model))
        if self.output_bias:
            self.output_bias_weight = self.add_weight(
                shape=(self.vocabulary_size,), initializer="zeros", name="output_bias"
            )

    def make_decoder(self, num_layers: int) -> Decoder:
        """Creates the decoder of `num_layers` blocks."""
        return Decoder(
            [self.make_decoder_block() for _ in range(num_layers)],
            final_norm=self.make_final_norm(),
            remat=self.remat,
            dtype=self.dtype_policy,
            name="decoder",
        )

    def make_decoder_block(self) -> keras.layers.Layer:
        """Creates one block of the decoder; override it for another one."""
        return DecoderBlock(**self.block_arguments())

    def call(self, inputs: Any, training: bool | None = None) -> Logits:
        return self._project(self.hidden_states(inputs, training=training))

    def hidden_states(self, inputs: Any, training: bool | None = None) -> Vectors:
        """Returns the decoder's output, which the output projection turns into logits.

        Args:
            inputs: As of a call.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, T, D]`.
        """
        raise NotImplementedError

    def has_plain_logits(self) -> bool:
        """Tells whether the logits are `hidden_states` by `output_table`, and the bias."""
        own_methods = (type(self).call, type(self)._project)
        is_ours = own_methods == (NextTokenModel.call, NextTokenModel._project)
        return is_ours and self._projects_plainly()

    def _projects_plainly(self) -> bool:
        """Tells whether `output_embedding` multiplies by its table or kernel and no more."""
        layer = self.output_embedding
        if self.tie_embeddings:
            return getattr(type(layer), "logits", None) is PositionalEmbedding.logits
        linear = keras.activations.linear
        return type(layer) is Projection and not layer.use_bias and layer.activation is linear

    def _project(self, hidden: Vectors) -> Logits:
        if self.tie_embeddings:
            logits = self.output_embedding.logits(hidden)
        else:
            logits = self.output_embedding(hidden)
        if self.output_bias:
            logits = logits + ops.cast(self.output_bias_weight, self.compute_dtype)
        return logits

    def output_table(self) -> Any:
        """Returns the output projection without its bias, a row for each id: floats `[V, D]`."""
        if self.tie_embeddings:
            return ops.cast(self.output_embedding.embeddings, self.compute_dtype)
        return ops.transpose(ops.cast(self.output_embedding.kernel, self.compute_dtype))

    def output_columns(self, ids: Ids) -> Any:
        """Returns the output projection of some ids alone, for `step`: ints `[C]` -> `[D, C]`.

        With an `output_bias`, it returns that and the bias, `[C]`.
        """
        if self.tie_embeddings:
            table = ops.cast(self.output_embedding.embeddings, self.compute_dtype)
            kernel = ops.transpose(ops.take(table, ids, axis=0))
        else:
            kernel = ops.cast(self.output_embedding.kernel, self.compute_dtype)
            kernel = ops.take(kernel, ids, axis=1)
        if not self.output_bias:
            return kernel
        return kernel, ops.take(ops.cast(self.output_bias_weight, self.compute_dtype), ids)

    def empty_state(
        self, rows: Size, length: Size, *, beam_size: int = 1, chunked: bool = False
    ) -> DecoderState:
        """Makes the decoder's state before the first step.

        Args:
            rows: B, the number of texts.
            length: Tokens that there is room for.
            beam_size: K, the hypotheses of each text.
            chunked: Whether `flush` can make room for another `length` tokens.

        Returns:
            A `DecoderState` of B texts; no hypothesis sees any of its slots.
        """
        return self.decoder.empty_state(rows, length, beam_size=beam_size, chunked=chunked)

    def _decode(
        self,
        ids: Ids,
        index: Size,
        state: DecoderState,
        columns: Any | None,
        memories: Any = None,
        memory_penalty: Any = (),
    ) -> tuple[Any, DecoderState]:
        """Embeds the newest tokens, runs the decoder's step and projects: the body of `step`."""
        check_overrides(self)
        check_overrides(self.target_embedding)
        embedded = self.target_embedding.embed(ids[:, None], index)  # [B*K, 1, D]
        hidden, state = self.decoder.step(
            ops.reshape(embedded, (-1, state.penalty.beam_size, self.d_model)),
            state,
            index,
            memories,
            memory_penalty,
        )
        rows = ops.reshape(hidden, (-1, self.d_model))
        if columns is None:
            return self._project(rows), state
        if not self.output_bias:
            return ops.matmul(rows, columns), state
        kernel, bias = columns
        return ops.matmul(rows, kernel) + bias, state

    def get_config(self) -> dict[str, Any]:
        names = ("tie_embeddings", "output_bias")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
