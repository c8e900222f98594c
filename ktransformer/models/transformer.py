"""The encoder-decoder Transformer."""

from typing import Any, ClassVar

import keras

from ktransformer.layers import DecoderState
from ktransformer.layers.cache import memory_mask_penalty
from ktransformer.layers.checks import check_inputs, to_size
from ktransformer.layers.tensors import Ids, Logits, Mask, Scores, Shape, Size, Vectors
from ktransformer.models.block_model import EncoderModel
from ktransformer.models.decoder import Decoder
from ktransformer.models.next_token_model import NextTokenModel

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"num_layers": 4, "d_model": 128, "hidden_dim": 256, "num_heads": 4},
    "base": {"num_layers": 6, "d_model": 512, "hidden_dim": 2048, "num_heads": 8},
    "big": {"num_layers": 6, "d_model": 1024, "hidden_dim": 4096, "num_heads": 16},
}


@keras.saving.register_keras_serializable(package="ktransformer")
class Transformer(NextTokenModel, EncoderModel):
    """Predicts each target token from the source and the target tokens before it.

    Override `make_encoder_block`, `make_decoder_block`, `make_embedding` or `make_final_norm` to
    build it from other parts.

    Args:
        vocabulary_size: V, the number of ids of the target, and of the source, too, unless
            `source_vocabulary_size` is set.
        source_vocabulary_size: The number of ids of the source, which then has an embedding table
            of its own; None for one vocabulary of both sides.
        num_layers: Blocks in the encoder, and in the decoder unless `num_decoder_layers` says
            otherwise.
        num_decoder_layers: Blocks in the decoder; None for as many as in the encoder.
        d_model: D, the width.
        scale_embeddings: Whether token vectors are multiplied by sqrt(D).
        tie_embeddings: True shares one table between source, target and output projection, or,
            with a `source_vocabulary_size`, between the last two; False gives each its own.
        output_bias: Whether the output projection has a bias.
        max_length: The longest source and the longest target, in tokens, the end token included;
            of what the decoder sees, the start token instead.
        pad_id: The id of padding, on both sides.
        **options: Fields of `BlockConfig`, by default 8 heads, a `hidden_dim` of 2048, a `dropout`
            of 0.1 and `"sinusoidal"` positions; `remat` of `BlockModel`; arguments of
            `keras.Model`. `dropout` is applied to the embeddings as well.

    Call arguments:
        inputs: `{"source": int [B, S], "target": int [B, T]}`; the target begins with the start
            token.
        training: Whether dropout is on.

    Returns:
        Logits `[B, T, V]`: at position t for the target token t + 1.

    Raises:
        ValueError: See `BlockModel` and `PositionalEmbedding`; or an input is missing, or has
            another number of axes or an id that is not in its side's vocabulary.
        TypeError: An argument is unknown, or the inputs are no dict.

    Masking: starts in the embeddings, at every id that is not `pad_id`; the logits carry the
        target's.

    Example:
        ```python
        model = Transformer.from_preset("tiny", vocabulary_size=8000)
        logits = model({"source": source, "target": target})
        ```

    Reference: Vaswani et al. 2017. Differences: the positions' sines come before the cosines by
        default.
    """

    presets = PRESETS
    block_defaults: ClassVar[dict[str, Any]] = {
        "num_heads": 8,
        "hidden_dim": 2048,
        "dropout": 0.1,
        "positions": "sinusoidal",
    }
    input_axes: ClassVar[dict[str, str]] = {"source": "[B, S]", "target": "[B, T]"}
    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {
        "call": ("step", "prepare_memory"),
        "hidden_states": ("step", "prepare_memory"),
    }

    def __init__(
        self,
        vocabulary_size: int,
        *,
        source_vocabulary_size: int | None = None,
        num_layers: int = 6,
        num_decoder_layers: int | None = None,
        d_model: int = 512,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary_size, num_layers=num_layers, d_model=d_model, **options)
        self.num_decoder_layers = to_size(
            "num_decoder_layers",
            self.num_layers if num_decoder_layers is None else num_decoder_layers,
        )
        if source_vocabulary_size is not None:
            source_vocabulary_size = to_size("source_vocabulary_size", source_vocabulary_size)
        self.source_vocabulary_size = source_vocabulary_size
        self._make_layers()

    def _make_layers(self) -> None:
        own = self.source_vocabulary_size
        sizes: dict[str, int] = {} if own is None else {"vocabulary_size": own}
        self.source_embedding = self.make_embedding("source_embedding", **sizes)
        self.target_embedding = self.source_embedding
        if own is not None or not self.tie_embeddings:
            self.target_embedding = self.make_embedding("target_embedding")
        self.output_embedding = self.target_embedding
        if not self.tie_embeddings:
            self.output_embedding = self.make_output_projection()
        self.encoder = self.make_encoder()
        self.decoder = self.make_decoder(self.num_decoder_layers)

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        ids, vectors = (None, None), (None, None, self.d_model)
        self.source_embedding.build(ids)
        if self.target_embedding is not self.source_embedding:
            self.target_embedding.build(ids)
        self._build_output()
        self.encoder.build(vectors)
        self.decoder.build(vectors, vectors)
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, T, V]`."""
        return (*input_shape["target"], self.vocabulary_size)

    def hidden_states(self, inputs: dict[str, Ids], training: bool | None = None) -> Vectors:
        """Returns the decoder's output, which the output projection turns into logits.

        Args:
            inputs: As of a call.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, T, D]`.
        """
        embedded, memory, masks = self._decoder_inputs(inputs, training)
        hidden: Vectors = self.decoder(embedded, memory, **masks, training=training)
        return hidden

    def _decoder_inputs(
        self, inputs: dict[str, Ids], training: bool | None
    ) -> tuple[Vectors, Vectors, dict[str, Mask]]:
        """Returns the embedded target, the memory and their masks, as the decoder takes them."""
        check_inputs(inputs, self.input_axes)
        memory = self.encode(inputs["source"], training=training)
        target = inputs["target"]
        masks = {
            "inputs_mask": self.target_embedding.compute_mask(target),
            "memory_mask": self.source_embedding.compute_mask(inputs["source"]),
        }
        return self.target_embedding(target, training=training), memory, masks

    def hidden_states_and_attention(
        self, inputs: dict[str, Ids], layer: int, training: bool | None = None
    ) -> tuple[Vectors, Scores]:
        """Returns `hidden_states`, and cross-attention weights of the same pass.

        Args:
            inputs: As of a call.
            layer: The decoder block whose weights are returned, from 0.
            training: Whether dropout is on; the weights are those without dropout in their block.

        Returns:
            Float tensors `[B, T, D]` and `[B, H, T, S]`. Where a subclass overrides
            `hidden_states` or the decoder's `call`, the weights are those of
            `cross_attention_weights`, of another pass.

        Raises:
            NotImplementedError: See `cross_attention_weights`.
        """
        ours = type(self).hidden_states is Transformer.hidden_states
        if not ours or type(self.decoder).call is not Decoder.call:
            hidden = self.hidden_states(inputs, training=training)
            return hidden, self.cross_attention_weights(inputs)[layer]
        embedded, memory, masks = self._decoder_inputs(inputs, training)
        return self.decoder.call_with_attention(embedded, memory, layer, **masks, training=training)

    def logits_and_attention(self, inputs: dict[str, Ids], layer: int) -> tuple[Logits, Scores]:
        """Returns the logits `[B, T, V]` of a call, and weights; see the method before this."""
        if type(self).call is not NextTokenModel.call:
            logits = self(inputs, training=False)
            return logits, self.cross_attention_weights(inputs)[layer]
        hidden, weights = self.hidden_states_and_attention(inputs, layer, training=False)
        return self._project(hidden), weights

    def compute_mask(self, inputs: Any, previous_mask: Mask = None) -> Any:
        """Marks the real target tokens: `[B, T]`, True where the id is not `pad_id`."""
        return self.target_embedding.compute_mask(inputs["target"])

    def encode(self, source: Ids, training: bool | None = None) -> Vectors:
        """Encodes source ids `[B, S]` into the memory `[B, S, D]`."""
        if not self.built:  # Else a model that is only used through this is saved unbuilt.
            self.build()
        return self.encoder(
            self.source_embedding(source, training=training),
            mask=self.source_embedding.compute_mask(source),
            training=training,
        )

    def prepare_memory(self, source: Ids) -> dict[str, Any]:
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

    def step(
        self,
        ids: Ids,
        index: Size,
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
        memories, penalty = memory["key_values"], memory["mask_penalty"]
        return self._decode(ids, index, state, columns, memories, penalty)

    def cross_attention_weights(self, inputs: dict[str, Ids]) -> list[Any]:
        """Returns each decoder block's cross-attention weights `[B, H, T, S]`.

        Raises:
            NotImplementedError: A subclass, of the decoder or in it, overrides `call` and not the
                method that returns its weights.
        """
        embedded, memory, masks = self._decoder_inputs(inputs, training=False)
        weights: list[Any] = self.decoder.cross_attention_weights(embedded, memory, **masks)
        return weights

    def get_config(self) -> dict[str, Any]:
        names = ("source_vocabulary_size", "num_decoder_layers")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
