"""The causal language model: a decoder that predicts each token from the text before it."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers import DecoderState
from ktransformer.layers.checks import check_inputs
from ktransformer.layers.positions import get as get_positions
from ktransformer.layers.tensors import Ids, Mask, Shape, Size, Vectors
from ktransformer.models.next_token_model import NextTokenModel

CAUSAL_PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"num_layers": 4, "d_model": 128, "hidden_dim": 512, "num_heads": 4},
    "small": {"num_layers": 12, "d_model": 768, "hidden_dim": 3072, "num_heads": 12},
    "medium": {"num_layers": 24, "d_model": 1024, "hidden_dim": 4096, "num_heads": 16},
}


@keras.saving.register_keras_serializable(package="ktransformer")
class CausalLanguageModel(NextTokenModel):
    """Predicts each token of a text from the tokens before it: a decoder without an encoder.

    Override `make_decoder_block`, `make_embedding` or `make_final_norm` to build it from other
    parts. A prompt is fed to `step` token by token, like the text that the model writes after it,
    so prompts of several lengths share a batch: their rows are at the same position, and some
    already write while others still read.

    Args:
        vocabulary_size: V, the number of ids.
        num_layers: Blocks in the decoder.
        d_model: D, the width.
        scale_embeddings: Whether token vectors are multiplied by sqrt(D).
        tie_embeddings: Whether the table of the embedding is the output projection as well.
        output_bias: Whether the output projection has a bias.
        max_length: The longest text, in tokens, the start token included.
        pad_id: The id of padding.
        segment_start_id: The id that begins each text of a row that packs several: no text attends
            to another, and positions count from it; what the attention asks of `positions` must
            depend on distances alone (see `PositionEncoding`). None where every row is one text,
            and for GPT-2's way: a text of a packed row attends to those before it, and positions
            count from the start of the row.
        **options: Fields of `BlockConfig`, by default 12 heads, a `hidden_dim` of 3072, a `dropout`
            of 0.1, GELU, `norm_first` and `"learned"` positions; `remat` of `BlockModel`;
            arguments of `keras.Model`. `dropout` is applied to the embedding as well.

    Call arguments:
        inputs: Int tensor `[B, T]`, beginning with the start token.
        training: Whether dropout is on.

    Returns:
        Logits `[B, T, V]`: at position t for the token t + 1.

    Raises:
        ValueError: See `BlockModel` and `PositionalEmbedding`; or there is a `segment_start_id`
            and `positions` is not `relative`, or the inputs have another number of axes.
        TypeError: An argument is unknown.

    Masking: starts in the embedding, at every id that is not `pad_id`; the logits carry the mask
        on. Later tokens are never attended to, nor is another text of a packed row.

    Example:
        ```python
        model = CausalLanguageModel.from_preset("tiny", vocabulary_size=8000, max_length=128)
        logits = model(ids)
        ```

    Reference: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section
        2.3 (sizes of `small` and `medium`). Differences: exact GELU, and the initial weights of
        the layers of this package.
    """

    presets = CAUSAL_PRESETS
    block_defaults: ClassVar[dict[str, Any]] = {
        "num_heads": 12,
        "hidden_dim": 3072,
        "dropout": 0.1,
        "activation": "gelu",
        "norm_first": True,
        "positions": "learned",
    }
    input_axes = "[B, T]"
    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {
        "call": ("step",),
        "hidden_states": ("step",),
    }

    def __init__(
        self,
        vocabulary_size: int,
        *,
        num_layers: int = 12,
        d_model: int = 768,
        scale_embeddings: bool = False,
        max_length: int = 1024,
        segment_start_id: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            vocabulary_size,
            num_layers=num_layers,
            d_model=d_model,
            scale_embeddings=scale_embeddings,
            max_length=max_length,
            **options,
        )
        self.segment_start_id = segment_start_id
        positions = get_positions(self.positions)
        if segment_start_id is not None and not positions.is_shift_invariant():
            raise ValueError(
                "A segment_start_id needs positions whose transform and bias depend on distances "
                "alone, because they are told the positions in the row; their class says so with "
                f"relative = True; got positions={positions!r}."
            )
        self._make_layers()

    def _make_layers(self) -> None:
        self.target_embedding = self.make_embedding("embedding")
        self.output_embedding = self.target_embedding
        if not self.tie_embeddings:
            self.output_embedding = self.make_output_projection()
        self.decoder = self.make_decoder(self.num_layers)

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        vectors = (None, None, self.d_model)
        self.target_embedding.build((None, None))
        self._build_output()
        self.decoder.build(vectors)
        self.built = True

    def export_signature(self) -> list[Any]:
        return [keras.InputSpec(shape=(None, None), dtype="int32", name="ids")]

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, T, V]`."""
        return (*input_shape, self.vocabulary_size)

    def hidden_states(self, inputs: Ids, training: bool | None = None) -> Vectors:
        """Returns the decoder's output, which the output projection turns into logits.

        Args:
            inputs: Int tensor `[B, T]`.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, T, D]`.
        """
        check_inputs(inputs, self.input_axes)
        packed: dict[str, Ids] = {}
        if self.segment_start_id is not None:
            packed["position_ids"] = self.position_ids(inputs)
        hidden: Vectors = self.decoder(
            self.target_embedding(inputs, training=training, **packed),
            inputs_mask=self.attention_mask(inputs),
            training=training,
        )
        return hidden

    def attention_mask(self, ids: Ids) -> Mask:
        """Marks the tokens that may be attended to, if they are not later ones.

        Args:
            ids: Int tensor `[B, T]`.

        Returns:
            Boolean tensor `[B, T]`, True at real tokens; with a `segment_start_id` `[B, T, T]`,
            True where the real tokens of a query and a key are of one text.
        """
        mask = self.target_embedding.compute_mask(ids)
        if self.segment_start_id is None:
            return mask
        return ops.logical_and(self._same_text(ids), ops.expand_dims(mask, 1))

    def position_ids(self, ids: Ids) -> Ids:
        """Counts each token's position from the start of its text in a packed row.

        Args:
            ids: Int tensor `[B, T]`.

        Returns:
            Int32 tensor `[B, T]`, 0 at every `segment_start_id`.
        """
        earlier = ops.tril(ops.cast(self._same_text(ids), "float32"), k=-1)
        return ops.cast(ops.sum(earlier, axis=2), "int32")

    def _same_text(self, ids: Ids) -> Mask:
        """Marks the pairs of tokens of one text of a packed row: `[B, T] -> [B, T, T]`."""
        # In float32: TensorFlow has no cumulative sum of integers on a GPU.
        starts = ops.cast(ops.equal(ids, self.segment_start_id), "float32")
        texts = ops.cumsum(starts, axis=1)  # [B, T], the number of each token's text in its row.
        return ops.equal(ops.expand_dims(texts, 2), ops.expand_dims(texts, 1))

    def compute_mask(self, inputs: Ids, previous_mask: Mask | None = None) -> Mask:
        """Marks the real tokens: `[B, T]`, True where the id is not `pad_id`."""
        return self.target_embedding.compute_mask(inputs)

    def step(
        self,
        ids: Ids,
        index: Size,
        state: DecoderState,
        memory: Any = (),
        columns: Any | None = None,
    ) -> tuple[Any, DecoderState]:
        """Predicts the token after the newest one.

        Args:
            ids: Int tensor `[B*K]`, the newest token of every hypothesis, those of one text next
                to each other.
            index: Its position, 0 for the start token; an int or a scalar int32 tensor.
            state: What `empty_state` or the last step returned.
            memory: Unused: the place of a `Transformer`'s memory, so that a search drives both.
            columns: What `output_columns` returned, for the logits of those ids alone.

        Returns:
            Logits `[B*K, V]`, or `[B*K, C]` of some ids, equal to what a call on the whole text
            gives at `index`, and the state with this token written in.

        Raises:
            NotImplementedError: A subclass, here or in the embedding, overrides a method of whole
                sequences and not its counterpart in decoding.
        """
        del memory
        return self._decode(ids, index, state, columns)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "segment_start_id": self.segment_start_id}
