"""The text encoder: a vector for each token in its context, or one for each text."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers import PositionalEmbedding, TypedEmbedding
from ktransformer.layers.checks import check_axes, check_choice, check_ids, check_inputs, to_size
from ktransformer.layers.tensors import Ids, Mask, Shape, Vectors
from ktransformer.models.block_model import EncoderModel
from ktransformer.models.text_model import TextModel
from ktransformer.models.transformer import PRESETS

TEXT_POOLINGS = ("mean", "cls", "max")


@keras.saving.register_keras_serializable(package="ktransformer")
class TextEncoder(TextModel, EncoderModel):
    """Turns each token of a text into a vector that knows its context.

    `MaskedLanguageModel` and `SequenceClassifier` are text encoders with a head. Override
    `make_encoder_block`, `make_embedding` or `make_final_norm` to build it from other parts.

    Args:
        vocabulary_size: V, the number of ids.
        num_layers: Blocks in the encoder.
        d_model: D, the width.
        embedding_norm: Whether the sum of the embeddings is normed, as in BERT.
        type_vocabulary_size: The number of token types, such as 2 for the two sentences of a pair;
            0 for none.
        scale_embeddings: Whether token vectors are multiplied by sqrt(D).
        max_length: The longest text, in tokens.
        pad_id: The id of padding.
        **options: Fields of `BlockConfig`, by default 12 heads, a `hidden_dim` of 3072, a `dropout`
            of 0.1, GELU and `"learned"` positions; `remat` of `BlockModel`; arguments of
            `keras.Model`. `dropout` is applied to the embedding as well, and `norm` and `epsilon`
            to its norm.

    Call arguments:
        inputs: `{"ids": int [B, T]}`, and of a model with token types also, where they are not all
            0, `"token_types": int [B, T]`.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: See `BlockModel` and `PositionalEmbedding`; or an input is missing, has another
            number of axes, or there are `token_types` for a model without any.
        TypeError: An argument is unknown, or the inputs are no dict.

    Masking: starts in the embedding, at every id that is not `pad_id`; the output carries it.

    Example:
        ```python
        model = TextEncoder.from_preset("tiny", vocabulary_size=8000, max_length=128)
        vectors = model({"ids": ids})  # (B, T, 128)
        sentences = model.embed(ids)  # (B, 128)
        ```

    Reference: Devlin et al. 2019. Their model has `embedding_norm`, 2 token types, an `epsilon` of
        1e-12 and no `scale_embeddings`.
    """

    presets = PRESETS
    block_defaults: ClassVar[dict[str, Any]] = {
        "num_heads": 12,
        "hidden_dim": 3072,
        "dropout": 0.1,
        "activation": "gelu",
        "positions": "learned",
    }
    input_axes: ClassVar[dict[str, str]] = {"ids": "[B, T]"}

    def __init__(
        self,
        vocabulary_size: int,
        *,
        num_layers: int = 12,
        d_model: int = 768,
        embedding_norm: bool = False,
        type_vocabulary_size: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary_size, num_layers=num_layers, d_model=d_model, **options)
        self.embedding_norm = embedding_norm
        self.type_vocabulary_size = to_size("type_vocabulary_size", type_vocabulary_size, least=0)
        self._make_layers()

    def _make_layers(self) -> None:
        self.embedding = self.make_embedding("embedding")
        self.encoder = self.make_encoder()

    def make_embedding(self, name: str, vocabulary_size: int | None = None) -> PositionalEmbedding:
        plain = super().make_embedding(name, vocabulary_size)
        if not (self.embedding_norm or self.type_vocabulary_size):
            return plain
        return TypedEmbedding(
            **plain.get_config(),
            type_vocabulary_size=self.type_vocabulary_size,
            norm=self.norm if self.embedding_norm else None,
            epsilon=self.epsilon,
        )

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        self.embedding.build((None, None))
        self.encoder.build((None, None, self.d_model))
        self.built = True

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, T, D]`."""
        return (*input_shape["ids"], self.d_model)

    def compute_mask(self, inputs: dict[str, Ids], previous_mask: Any = None) -> Mask | None:
        """Marks the real tokens: `[B, T]`, True where the id is not `pad_id`."""
        return self.embedding.compute_mask(inputs["ids"])

    def call(self, inputs: dict[str, Ids], training: bool | None = None) -> Any:
        return self.encode_inputs(inputs, training=training)

    def encode_inputs(self, inputs: dict[str, Ids], training: bool | None = None) -> Vectors:
        """Encodes what `call` takes: `[B, T, D]`."""
        check_inputs(inputs, self.input_axes)
        return self.encode(inputs["ids"], training, token_types=inputs.get("token_types"))

    def encode(
        self, ids: Ids, training: bool | None = None, *, token_types: Ids | None = None
    ) -> Vectors:
        """Encodes ids `[B, T]` into a vector for each token, in its context: `[B, T, D]`.

        `token_types`, `[B, T]`, are the types of the tokens; None for 0 everywhere.
        """
        if not self.built:  # Else a model that is only used through this is saved unbuilt.
            self.build()
        options = {}
        if token_types is not None:
            self._check_types(token_types)
            options["token_types"] = token_types
        return self.encoder(
            self.embedding(ids, training=training, **options),
            mask=self.embedding.compute_mask(ids),
            training=training,
        )

    def _check_types(self, token_types: Ids) -> None:
        if not self.type_vocabulary_size:
            raise ValueError(
                f"This {type(self).__name__} takes no token_types; type_vocabulary_size is 0."
            )
        check_axes("token_types", token_types, "[B, T]")
        check_ids("token_types", token_types, self.type_vocabulary_size)

    def embed(
        self,
        ids: Ids,
        training: bool | None = None,
        *,
        pooling: str = "mean",
        token_types: Ids | None = None,
    ) -> Vectors:
        """Turns texts into vectors.

        Args:
            ids: Int tensor `[B, T]`.
            training: Whether dropout is on.
            pooling: What becomes of a text's encoded tokens: `"mean"` or `"max"` over all real
                ones, or `"cls"`, the first.
            token_types: Int tensor `[B, T]`; None for 0 everywhere.

        Returns:
            Float tensor `[B, D]`; zeros for a row of padding alone, except from `"cls"`.

        Raises:
            ValueError: `pooling` is unknown.

        Reference: Reimers and Gurevych 2019, section 3.
        """
        hidden = self.encode(ids, training, token_types=token_types)
        return self.pool(hidden, self.embedding.compute_mask(ids), pooling)

    def pool(self, hidden: Vectors, mask: Mask, pooling: str) -> Vectors:
        """Makes one vector of a text's many: `[B, T, D] -> [B, D]`.

        Args:
            hidden: Float tensor `[B, T, D]`.
            mask: Boolean tensor `[B, T]`, True at real tokens.
            pooling: As for `embed`.

        Raises:
            ValueError: `pooling` is unknown.
        """
        check_choice("pooling", pooling, TEXT_POOLINGS)
        if pooling == "cls":
            return hidden[:, 0]
        # In float32: a sum over many tokens does not fit into float16.
        hidden = ops.cast(hidden, "float32")
        real = ops.expand_dims(ops.cast(mask, "float32"), axis=-1)  # [B, T, 1]
        if pooling == "mean":
            pooled = ops.sum(hidden * real, axis=1) / ops.maximum(ops.sum(real, axis=1), 1.0)
        else:
            # Not -inf: of a row of padding alone 0 is left.
            pooled = ops.max(hidden * real - 1e9 * (1 - real), axis=1) * ops.max(real, axis=1)
        return ops.cast(pooled, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        names = ("embedding_norm", "type_vocabulary_size")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
