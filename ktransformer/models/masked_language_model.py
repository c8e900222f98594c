"""The masked language model: an encoder that predicts masked tokens."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers.checks import check_ids
from ktransformer.layers.projection import Projection
from ktransformer.layers.tensors import Ids, Logits, Shape, Vectors
from ktransformer.models.text_encoder import TextEncoder


@keras.saving.register_keras_serializable(package="ktransformer")
class MaskedLanguageModel(TextEncoder):
    """Predicts masked tokens from the tokens on both sides of them.

    Override `make_encoder_block`, `make_embedding` or `make_final_norm` to build it from other
    parts, and `logits` for another head. The weights of `encoder` fit the encoder of a
    `Transformer` of the same sizes.

    Args:
        vocabulary_size: V, the number of ids, that of the mask included.
        num_layers: Blocks in the encoder.
        d_model: D, the width.
        **options: Arguments of `TextEncoder`. `activation`, `norm` and `epsilon` are applied to the
            head as well.

    Call arguments:
        inputs: `{"ids": int [B, T], "positions": int [B, M]}`; `positions` says which tokens of
            each text to predict. Only these are projected onto the vocabulary. `"token_types"` as
            for `TextEncoder`.
        training: Whether dropout is on.

    Returns:
        Logits `[B, M, V]`.

    Raises:
        ValueError: See `TextEncoder`.
        TypeError: An argument is unknown, or the inputs are no dict.

    Masking: starts in the embedding, at every id that is not `pad_id`. The logits carry none: a
        row with fewer than M tokens to predict has labels of padding there.

    Example:
        ```python
        model = MaskedLanguageModel.from_preset("tiny", vocabulary_size=8000, max_length=128)
        logits = model({"ids": ids, "positions": positions})
        sentences = model.embed(ids)
        ```

    Reference: Devlin et al. 2019. Differences: no next-sentence task; by default no token types,
        and token vectors are scaled by sqrt(D), as in Vaswani et al. 2017, and not normed.
    """

    input_axes: ClassVar[dict[str, str]] = {"ids": "[B, T]", "positions": "[B, M]"}

    def _make_layers(self) -> None:
        super()._make_layers()
        self.head_projection = Projection(
            self.d_model,
            activation=self.activation,
            dtype=self.dtype_policy,
            name="head_projection",
        )
        self.head_norm = self.make_norm("head_norm")

    def build(self, input_shape: Shape = None) -> None:
        """Creates the weights; they do not depend on the shape of the inputs."""
        super().build(input_shape)
        vectors = (None, None, self.d_model)
        self.head_projection.build(vectors)
        self.head_norm.build(vectors)
        self.head_bias = self.add_weight(
            shape=(self.vocabulary_size,), initializer="zeros", name="head_bias"
        )

    def compute_output_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        """Returns `[B, M, V]`."""
        return (*input_shape["positions"], self.vocabulary_size)

    def compute_mask(self, inputs: dict[str, Ids], previous_mask: Any = None) -> None:
        """Returns None: the logits carry no mask."""

    def call(self, inputs: dict[str, Ids], training: bool | None = None) -> Logits:
        hidden = self.encode_inputs(inputs, training=training)
        positions = ops.cast(inputs["positions"], "int32")  # Keras loads them as floats.
        check_ids("positions", positions, inputs["ids"].shape[1])
        return self.logits(ops.take_along_axis(hidden, ops.expand_dims(positions, axis=-1), axis=1))

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
