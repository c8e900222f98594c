"""The classifier of texts: an encoder, a pooled vector of each text, and a head."""

from typing import Any, Self

import keras

from ktransformer.layers.checks import check_choice, check_dropouts, to_size
from ktransformer.layers.projection import Projection
from ktransformer.layers.tensors import Ids, Shape
from ktransformer.models.text_encoder import TEXT_POOLINGS, TextEncoder

# The methods that make what `from_encoder` copies the weights of.
_PARTS = ("make_encoder", "make_encoder_block", "make_embedding", "make_final_norm")


@keras.saving.register_keras_serializable(package="ktransformer")
class SequenceClassifier(TextEncoder):
    """Classifies texts, or pairs of them, with the Transformer's encoder.

    Override `make_head` for another head.

    Args:
        vocabulary_size: V, the number of ids.
        num_classes: Number of classes.
        pooling: What becomes of a text's encoded tokens; see `TextEncoder.embed`.
        head_dropout: Probability of zeroing a feature before the head, in [0, 1); None for
            `dropout`.
        **options: Arguments of `TextEncoder`.

    Call arguments:
        inputs: As for `TextEncoder`: `{"ids": int [B, T]}`, with `"token_types"` for pairs.
        training: Whether dropout is on.

    Returns:
        Logits `[B, num_classes]`.

    Raises:
        ValueError: See `TextEncoder`; or `pooling` is unknown, or `head_dropout` not in [0, 1).
        TypeError: An argument is unknown, or the inputs are no dict.

    Masking: starts in the embedding, at every id that is not `pad_id`; the logits carry none.

    Example:
        ```python
        model = SequenceClassifier.from_encoder(encoder, num_classes=2)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit({"ids": ids}, labels)
        ```

    Reference: Devlin et al. 2019, section 4.1; a dense layer with tanh stands between the vector
        of the first token and the head, as in their code.
    """

    def __init__(
        self,
        vocabulary_size: int,
        num_classes: int,
        *,
        pooling: str = "cls",
        head_dropout: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(vocabulary_size, **options)
        check_choice("pooling", pooling, TEXT_POOLINGS)
        check_dropouts(head_dropout=head_dropout or 0.0)
        self.num_classes = to_size("num_classes", num_classes)
        self.pooling = pooling
        self.head_dropout = head_dropout
        self.pooler = Projection(
            self.d_model, activation="tanh", dtype=self.dtype_policy, name="pooler"
        )
        rate = self.dropout if head_dropout is None else head_dropout
        self.pooled_dropout = keras.layers.Dropout(
            rate, dtype=self.dtype_policy, name="pooled_dropout"
        )
        self.head = self.make_head()

    @classmethod
    def from_encoder(cls, encoder: TextEncoder, num_classes: int, **options: Any) -> Self:
        """Creates a classifier with a trained encoder's sizes and weights, and a drawn head.

        Args:
            encoder: The encoder, built, which may have another head; its weights are copied.
            num_classes: Number of classes.
            **options: Arguments of the constructor that take the place of the encoder's.

        Raises:
            ValueError: The class of the encoder makes its parts by a method that this one lacks.
        """
        for name in _PARTS:
            theirs = getattr(type(encoder), name)
            if theirs not in (getattr(cls, name), getattr(TextEncoder, name)):
                raise ValueError(
                    f"{cls.__name__} must have the parts of the encoder; {type(encoder).__name__} "
                    f"overrides {name}. Let both classes inherit the method from a third one."
                )
        config = TextEncoder.get_config(encoder)
        del config["name"]
        model = cls.from_config({**config, "num_classes": num_classes, **options})
        model.build()
        model.embedding.set_weights(encoder.embedding.get_weights())
        model.encoder.set_weights(encoder.encoder.get_weights())
        return model

    def make_head(self) -> keras.layers.Layer:
        """Creates the layer from features `[B, D]` to logits; override it for another one."""
        return Projection(self.num_classes, dtype=self.dtype_policy, name="head")

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        super().build(input_shape)
        self.pooler.build((None, self.d_model))
        self.head.build((None, self.d_model))

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, num_classes]`."""
        return (input_shape["ids"][0], self.num_classes)

    def compute_mask(self, inputs: dict[str, Ids], previous_mask: Any = None) -> None:
        """Returns None: the logits carry no mask."""

    def call(self, inputs: dict[str, Ids], training: bool | None = None) -> Any:
        hidden = self.encode_inputs(inputs, training=training)
        pooled = self.pool(hidden, self.embedding.compute_mask(inputs["ids"]), self.pooling)
        pooled = self.pooled_dropout(self.pooler(pooled), training=training)
        return self.head(pooled)

    def get_config(self) -> dict[str, Any]:
        names = ("num_classes", "pooling", "head_dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
