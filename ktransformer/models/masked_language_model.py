"""The masked language model: an encoder that predicts masked tokens."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers.checks import check_ids, check_inputs
from ktransformer.layers.projection import Projection
from ktransformer.layers.tensors import Ids, Logits, Shape, Vectors
from ktransformer.models.block_model import EncoderModel
from ktransformer.models.text_model import TextModel
from ktransformer.models.transformer import PRESETS


@keras.saving.register_keras_serializable(package="ktransformer")
class MaskedLanguageModel(TextModel, EncoderModel):
    """Predicts masked tokens from the tokens on both sides of them.

    Override `make_encoder_block`, `make_embedding` or `make_final_norm` to build it from other
    parts, and `logits` for another head. The weights of `encoder` fit the encoder of a
    `Transformer` of the same sizes.

    Args:
        vocabulary_size: V, the number of ids, that of the mask included.
        num_layers: Blocks in the encoder.
        d_model: D, the width.
        scale_embeddings: Whether token vectors are multiplied by sqrt(D).
        max_length: The longest text, in tokens, the end token included.
        pad_id: The id of padding.
        **options: Fields of `BlockConfig`, by default 12 heads, a `hidden_dim` of 3072, a `dropout`
            of 0.1, GELU and `"learned"` positions; `remat` of `BlockModel`; arguments of
            `keras.Model`. `dropout` is applied to the embedding as well, `activation`, `norm` and
            `epsilon` to the head.

    Call arguments:
        inputs: `{"ids": int [B, T], "positions": int [B, M]}`; `positions` says which tokens of
            each text to predict. Only these are projected onto the vocabulary.
        training: Whether dropout is on.

    Returns:
        Logits `[B, M, V]`.

    Raises:
        ValueError: See `BlockModel` and `PositionalEmbedding`; or an input is missing or has
            another number of axes.
        TypeError: An argument is unknown, or the inputs are no dict.

    Masking: starts in the embedding, at every id that is not `pad_id`. The logits carry none: a
        row with fewer than M tokens to predict has labels of padding there.

    Example:
        ```python
        model = MaskedLanguageModel.from_preset("tiny", vocabulary_size=8000, max_length=128)
        logits = model({"ids": ids, "positions": positions})
        sentences = model.embed(ids)
        ```

    Reference: Devlin et al. 2019. Differences: no sentence pairs, and so no segment embeddings
        and no next-sentence task; token vectors are scaled by sqrt(D), as in Vaswani et al. 2017,
        and not normed before the first block.
    """

    presets = PRESETS
    block_defaults: ClassVar[dict[str, Any]] = {
        "num_heads": 12,
        "hidden_dim": 3072,
        "dropout": 0.1,
        "activation": "gelu",
        "positions": "learned",
    }
    input_axes: ClassVar[dict[str, str]] = {"ids": "[B, T]", "positions": "[B, M]"}

    def __init__(
        self,
        vocabulary_size: int,
        *,
        num_layers: int = 12,
        d_model: int = 768,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary_size, num_layers=num_layers, d_model=d_model, **options)
        self._make_layers()

    def _make_layers(self) -> None:
        self.embedding = self.make_embedding("embedding")
        self.encoder = self.make_encoder()
        self.head_projection = Projection(
            self.d_model,
            activation=self.activation,
            dtype=self.dtype_policy,
            name="head_projection",
        )
        self.head_norm = self.make_norm("head_norm")

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        vectors = (None, None, self.d_model)
        self.embedding.build((None, None))
        self.encoder.build(vectors)
        self.head_projection.build(vectors)
        self.head_norm.build(vectors)
        self.head_bias = self.add_weight(
            shape=(self.vocabulary_size,), initializer="zeros", name="head_bias"
        )
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, M, V]`."""
        return (*input_shape["positions"], self.vocabulary_size)

    def call(self, inputs: dict[str, Ids], training: bool | None = None) -> Logits:
        check_inputs(inputs, self.input_axes)
        hidden = self.encode(inputs["ids"], training=training)
        positions = ops.cast(inputs["positions"], "int32")  # Keras loads them as floats.
        check_ids("positions", positions, inputs["ids"].shape[1])
        return self.logits(ops.take_along_axis(hidden, ops.expand_dims(positions, axis=-1), axis=1))

    def encode(self, ids: Ids, training: bool | None = None) -> Vectors:
        """Encodes ids `[B, T]` into a vector for each token, in its context: `[B, T, D]`."""
        if not self.built:  # Else a model that is only used through this is saved unbuilt.
            self.build()
        return self.encoder(
            self.embedding(ids, training=training),
            mask=self.embedding.compute_mask(ids),
            training=training,
        )

    def logits(self, hidden: Vectors) -> Logits:
        """Predicts the tokens at some encoded positions: `[B, M, D] -> [B, M, V]`.

        Reference: Devlin et al. 2019, section 3.1, and their code: a dense layer, a norm, the
            table of the embedding, a bias for each id.

        Raises:
            ValueError: `hidden` is symbolic: a functional model would use a copy of the bias.
        """
        if isinstance(hidden, keras.KerasTensor):
            raise ValueError(
                f"logits of {type(self).__name__} takes no symbolic tensor: a functional model "
                f"would use a copy of its bias that is never trained; got {hidden}. Call the "
                "model, model({'ids': ids, 'positions': positions}), or call logits in a layer."
            )
        hidden = self.head_norm(self.head_projection(hidden))
        return self.embedding.logits(hidden) + ops.cast(self.head_bias, self.compute_dtype)

    def embed(self, ids: Ids, training: bool | None = None) -> Vectors:
        """Turns texts into vectors: the mean over their encoded tokens.

        Args:
            ids: Int tensor `[B, T]`.
            training: Whether dropout is on.

        Returns:
            Float tensor `[B, D]`; zeros for a row of padding alone.
        """
        # In float32: a sum over many tokens does not fit into float16.
        hidden = ops.cast(self.encode(ids, training=training), "float32")
        real = ops.cast(self.embedding.compute_mask(ids), "float32")
        real = ops.expand_dims(real, axis=-1)  # [B, T, 1]
        mean = ops.sum(hidden * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)
        return ops.cast(mean, self.compute_dtype)
