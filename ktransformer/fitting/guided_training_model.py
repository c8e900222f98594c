"""A model for training that also guides the attention of some heads to an alignment."""

from typing import Any

import keras

from ktransformer.fitting.training_model import TrainingModel
from ktransformer.losses import alignment_weights, guided_alignment_loss


@keras.saving.register_keras_serializable(package="ktransformer")
class GuidedTrainingModel(TrainingModel):
    """A `TrainingModel` whose loss has a part for the alignment of source and target.

    The loss is that of `TrainingModel` plus `alignment_weight` times the `guided_alignment_loss`
    of the mean weights of some heads, which the metric `alignment` shows.

    Args:
        transformer: A `Transformer` with plain logits.
        layer: The decoder block whose cross-attention is guided, from 0.
        heads: Its first so many heads, of which the mean is guided.
        alignment_weight: The weight of the alignment's loss.
        **options: Arguments of `TrainingModel`.

    Call arguments:
        inputs: Those of the inner model, and `alignment`, float `[B, T, S]`, as `AlignedBatches`
            has it.
        training: Whether dropout is on; there is none in the block's weights.

    Returns:
        Hidden states `[B, T, D]` and weights `[B, T, S]`.

    Reference: Garg et al. 2019, "Jointly Learning to Align and Translate with Transformer Models",
        section 4.2 (there a second pass sees the whole target; here a position sees the token that
        it aligns).
    """

    def __init__(
        self,
        transformer: keras.Model,
        *,
        layer: int,
        heads: int | None = 1,
        alignment_weight: float = 0.05,
        **options: Any,
    ) -> None:
        super().__init__(transformer, **options)
        self.layer, self.heads, self.alignment_weight = layer, heads, alignment_weight
        self.alignment_loss = keras.metrics.Mean("alignment")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        ids = {name: inputs[name] for name in ("source", "target")}
        hidden, attention = self.transformer.hidden_states_and_attention(
            ids, self.layer, training=training
        )
        return hidden, alignment_weights(attention, self.heads, shifted=True)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns the loss of both parts, and updates the metrics.

        Weights of the sentences do not change the alignment's part.
        """
        hidden, weights = y_pred
        loss = super().compute_loss(x, y, hidden, sample_weight, training)
        alignment = guided_alignment_loss(x["alignment"], weights)
        self.alignment_loss.update_state(alignment)
        return loss + self.alignment_weight * alignment

    def get_config(self) -> dict[str, Any]:
        names = ("layer", "heads", "alignment_weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
