"""The encoder-decoder Transformer."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers import DecoderBlock, DecoderState, PositionalEmbedding
from ktransformer.layers.cache import memory_mask_penalty
from ktransformer.layers.checks import check_inputs, check_sizes
from ktransformer.layers.overrides import check_overrides
from ktransformer.layers.projection import Projection
from ktransformer.models.decoder import Decoder
from ktransformer.models.encoder_model import EncoderModel

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"num_layers": 4, "d_model": 128, "hidden_dim": 256, "num_heads": 4},
    "base": {"num_layers": 6, "d_model": 512, "hidden_dim": 2048, "num_heads": 8},
    "big": {"num_layers": 6, "d_model": 1024, "hidden_dim": 4096, "num_heads": 16},
}


@keras.saving.register_keras_serializable(package="ktransformer")
class Transformer(EncoderModel):
    """Predicts each target token from the source and the target tokens before it.

    Override `make_encoder_block`, `make_decoder_block`, `make_embedding` or `make_final_norm` to
    build it from other parts.

    Args:
        vocabulary_size: V, the number of ids, shared by source and target.
        num_layers: Blocks in the encoder, and in the decoder unless `num_decoder_layers` says
            otherwise.
        num_decoder_layers: Blocks in the decoder; None for as many as in the encoder.
        d_model: D, the width.
        num_heads: H, the attention heads; divides D.
        hidden_dim: Features of the feed-forward networks' inner layer.
        dropout: Probability of zeroing a feature of an embedding or of a sublayer's output.
        attention_dropout: The same for attention weights.
        hidden_dropout: The same for the feed-forward networks' inner features.
        activation: Inner activation of the feed-forward networks.
        norm_first: True for pre-norm, False for post-norm.
        positions: `"sinusoidal"`, `"sinusoidal_interleaved"`, `"learned"` or `"none"`; see
            `PositionalEmbedding`.
        scale_embeddings: Whether token vectors are multiplied by sqrt(D).
        tie_embeddings: True shares one table between source, target and output projection;
            False gives each its own.
        max_length: The longest source and the longest target, in tokens, the end token included;
            of what the decoder sees, the start token instead.
        pad_id: The id of padding.
        epsilon: Added to the variance in the norms.
        remat: Whether a block's activations are computed again for the gradient, instead of being
            kept: less memory for more time, and the same results within rounding.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: `{"source": int [B, S], "target": int [B, T]}`; the target begins with the start
            token.
        training: Whether dropout is on.

    Returns:
        Logits `[B, T, V]`: at position t for the target token t + 1.

    Raises:
        ValueError: A size is below 1, `num_heads` does not divide `d_model`, a dropout is not in
            [0, 1), `positions` is unknown, or an input is missing or has another number of axes.
        TypeError: The inputs are no dict.

    Masking: starts in the embeddings, at every id that is not `pad_id`; the logits carry the
        target's.

    Example:
        ```python
        model = Transformer.from_preset("tiny", vocabulary_size=8000)
        logits = model({"source": source, "target": target})
        ```

    Reference: Vaswani et al. 2017. Differences: the output projection has no bias (as there),
        the positions' sines come before the cosines by default.
    """

    presets = PRESETS
    input_axes: ClassVar[dict[str, str]] = {"source": "[B, S]", "target": "[B, T]"}
    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {
        "call": ("step", "prepare_memory"),
        "hidden_states": ("step", "prepare_memory"),
    }

    def __init__(
        self,
        vocabulary_size: int,
        *,
        num_layers: int = 6,
        num_decoder_layers: int | None = None,
        d_model: int = 512,
        num_heads: int = 8,
        hidden_dim: int = 2048,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        hidden_dropout: float = 0.0,
        activation: str = "relu",
        norm_first: bool = False,
        positions: str = "sinusoidal",
        scale_embeddings: bool = True,
        tie_embeddings: bool = True,
        max_length: int = 512,
        pad_id: int = 0,
        epsilon: float = 1e-5,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            d_model=d_model,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            hidden_dropout=hidden_dropout,
            activation=activation,
            norm_first=norm_first,
            epsilon=epsilon,
            remat=remat,
            **kwargs,
        )
        num_decoder_layers = num_layers if num_decoder_layers is None else num_decoder_layers
        check_sizes(num_decoder_layers=num_decoder_layers)
        self.vocabulary_size = vocabulary_size
        self.num_decoder_layers = num_decoder_layers
        self.positions = positions
        self.scale_embeddings = scale_embeddings
        self.tie_embeddings = tie_embeddings
        self.max_length = max_length
        self.pad_id = pad_id
        self._make_layers()

    def _make_layers(self) -> None:
        self.source_embedding = self.make_embedding("source_embedding")
        self.target_embedding = self.source_embedding
        self.output_embedding = self.source_embedding
        if not self.tie_embeddings:
            self.target_embedding = self.make_embedding("target_embedding")
            self.output_embedding = Projection(
                self.vocabulary_size, use_bias=False, dtype=self.dtype_policy, name="output"
            )
        self.encoder = self.make_encoder()
        self.decoder = Decoder(
            [self.make_decoder_block() for _ in range(self.num_decoder_layers)],
            final_norm=self.make_final_norm(),
            remat=self.remat,
            dtype=self.dtype_policy,
            name="decoder",
        )

    def make_embedding(self, name: str) -> PositionalEmbedding:
        """Creates an embedding with positions; override it for another one."""
        return PositionalEmbedding(
            self.vocabulary_size,
            self.d_model,
            max_length=self.max_length,
            positions=self.positions,
            scale=self.scale_embeddings,
            pad_id=self.pad_id,
            dropout=self.dropout,
            dtype=self.dtype_policy,
            name=name,
        )

    def make_decoder_block(self) -> keras.layers.Layer:
        """Creates one block of the decoder; override it for another one."""
        return DecoderBlock(**self.block_arguments())

    def build(self, input_shape: Any = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        ids, vectors = (None, None), (None, None, self.d_model)
        self.source_embedding.build(ids)
        if not self.tie_embeddings:
            self.target_embedding.build(ids)
            self.output_embedding.build(vectors)
        self.encoder.build(vectors)
        self.decoder.build(vectors, vectors)
        self.built = True

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Returns `[B, T, V]`."""
        return (*input_shape["target"], self.vocabulary_size)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        return self._project(self.hidden_states(inputs, training=training))

    def hidden_states(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns what the output projection makes the logits of: `[B, T, D]`."""
        check_inputs(inputs, self.input_axes)
        memory = self.encode(inputs["source"], training=training)
        target = inputs["target"]
        hidden: Any = self.decoder(
            self.target_embedding(target, training=training),
            memory,
            inputs_mask=self.target_embedding.compute_mask(target),
            memory_mask=self.source_embedding.compute_mask(inputs["source"]),
            training=training,
        )
        return hidden

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Marks the real target tokens: `[B, T]`, True where the id is not `pad_id`."""
        return self.target_embedding.compute_mask(inputs["target"])

    def encode(self, source: Any, training: bool | None = None) -> Any:
        """Encodes source ids `[B, S]` into the memory `[B, S, D]`."""
        if not self.built:  # Else a model that is only used through this is saved unbuilt.
            self.build()
        return self.encoder(
            self.source_embedding(source, training=training),
            mask=self.source_embedding.compute_mask(source),
            training=training,
        )

    def has_plain_logits(self) -> bool:
        """Tells whether the logits are `hidden_states` by `output_table`, overrides aside."""
        logits = getattr(type(self.output_embedding), "logits", None)
        plain_table = not self.tie_embeddings or logits is PositionalEmbedding.logits
        own_methods = (type(self).call, type(self)._project)
        return plain_table and own_methods == (Transformer.call, Transformer._project)

    def _project(self, hidden: Any) -> Any:
        if self.tie_embeddings:
            return self.output_embedding.logits(hidden)
        return self.output_embedding(hidden)

    def prepare_memory(self, source: Any) -> dict[str, Any]:
        """Encodes the source once and for all steps of decoding.

        Args:
            source: Int tensor `[B, S]`.

        Returns:
            `key_values`, the key and value of each decoder block's cross-attention, and
            `mask_penalty`, float32 `[B, 1, 1, S]`: 0 at real tokens, 1e9 at padding.
        """
        mask = self.source_embedding.compute_mask(source)
        return {
            "key_values": self.decoder.project_memory(self.encode(source, training=False), mask),
            "mask_penalty": memory_mask_penalty(mask),
        }

    def empty_state(
        self, rows: Any, length: Any, *, beam_size: int = 1, chunked: bool = False
    ) -> DecoderState:
        """Makes the decoder's state before the first step.

        Args:
            rows: B, the number of sentences.
            length: Tokens that there is room for.
            beam_size: K, the hypotheses of each sentence.
            chunked: Whether `flush` can make room for another `length` tokens.
        """
        return self.decoder.empty_state(rows, length, beam_size=beam_size, chunked=chunked)

    def output_table(self) -> Any:
        """Returns the output projection, a row for each id: floats `[V, D]`."""
        if self.tie_embeddings:
            return ops.cast(self.output_embedding.embeddings, self.compute_dtype)
        return ops.transpose(ops.cast(self.output_embedding.kernel, self.compute_dtype))

    def output_columns(self, ids: Any) -> Any:
        """Returns the output projection of some ids alone: ints `[C]` -> floats `[D, C]`."""
        if self.tie_embeddings:
            table = ops.cast(self.output_embedding.embeddings, self.compute_dtype)
            return ops.transpose(ops.take(table, ids, axis=0))
        kernel = ops.cast(self.output_embedding.kernel, self.compute_dtype)
        return ops.take(kernel, ids, axis=1)

    def step(
        self,
        ids: Any,
        index: Any,
        state: DecoderState,
        memory: dict[str, Any],
        columns: Any | None = None,
    ) -> tuple[Any, DecoderState]:
        """Predicts the token after the newest one.

        Args:
            ids: Int tensor `[B*K]`, the newest token of every hypothesis, those of one sentence
                next to each other.
            index: Its position, 0 for the start token; an int or a scalar int32 tensor.
            state: What `empty_state` or the last step returned.
            memory: What `prepare_memory` returned for the B sentences.
            columns: What `output_columns` returned, for the logits of those ids alone.

        Returns:
            Logits `[B*K, V]`, or `[B*K, C]` of some ids, equal to what a call on the whole target
            gives at `index`, and the state with this token written in.

        Raises:
            NotImplementedError: A subclass, here or in the target's embedding, overrides a method
                of whole sequences and not its counterpart in decoding.
        """
        check_overrides(self)
        check_overrides(self.target_embedding)
        embedded = self.target_embedding.embed(ids[:, None], index)  # [B*K, 1, D]
        hidden, state = self.decoder.step(
            ops.reshape(embedded, (-1, state.penalty.beam_size, self.d_model)),
            state,
            index,
            memory["key_values"],
            memory["mask_penalty"],
        )
        rows = ops.reshape(hidden, (-1, self.d_model))
        return self._project(rows) if columns is None else ops.matmul(rows, columns), state

    def cross_attention_weights(self, inputs: dict[str, Any]) -> list[Any]:
        """Returns each decoder block's cross-attention weights `[B, H, T, S]`."""
        memory = self.encode(inputs["source"], training=False)
        memory_mask = self.source_embedding.compute_mask(inputs["source"])
        mask = self.target_embedding.compute_mask(inputs["target"])
        hidden, weights = self.target_embedding(inputs["target"], training=False), []
        for block in self.decoder.blocks:
            weights.append(block.cross_attention_weights(hidden, memory, mask, memory_mask))
            hidden = block(
                hidden, memory, inputs_mask=mask, memory_mask=memory_mask, training=False
            )
        return weights

    def get_config(self) -> dict[str, Any]:
        names = (
            "vocabulary_size",
            "num_decoder_layers",
            "norm_first",
            "positions",
            "scale_embeddings",
            "tie_embeddings",
            "max_length",
            "pad_id",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
