"""Learning-rate schedules."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="ktransformer")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to a peak, then falls with the inverse square root of the step.

    The paper's schedule is `InverseSquareRoot.noam(d_model, warmup_steps)`.

    Args:
        peak: The learning rate at the end of the warm-up, above 0.
        warmup_steps: Number of updates until the peak, at least 1.

    Raises:
        ValueError: `peak` is not above 0 or `warmup_steps` is below 1.

    Example:
        ```python
        optimizer = keras.optimizers.Adam(InverseSquareRoot(5e-3, 2000), beta_2=0.98)
        ```

    Reference: Vaswani et al. 2017, section 5.3, equation 3.
    """

    def __init__(self, peak: float, warmup_steps: int) -> None:
        super().__init__()
        if not peak > 0:
            raise ValueError(f"peak must be above 0; got peak={peak}.")
        if warmup_steps < 1:
            raise ValueError(f"warmup_steps must be at least 1; got warmup_steps={warmup_steps}.")
        self.peak = peak
        self.warmup_steps = warmup_steps

    @classmethod
    def noam(
        cls, d_model: int, warmup_steps: int = 4000, scale: float = 1.0
    ) -> "InverseSquareRoot":
        """Creates the paper's schedule, with a peak that depends on the model's width.

        Args:
            d_model: D, the width of the model.
            warmup_steps: Number of updates until the peak.
            scale: Factor of the learning rate.

        Raises:
            ValueError: `d_model` or `warmup_steps` is below 1, or `scale` is not above 0.
        """
        if d_model < 1 or warmup_steps < 1:
            raise ValueError(
                "d_model and warmup_steps must be at least 1; "
                f"got d_model={d_model}, warmup_steps={warmup_steps}."
            )
        return cls(scale * (d_model * warmup_steps) ** -0.5, warmup_steps)

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of the update after `step` updates."""
        update = ops.cast(step, "float32") + 1.0
        warmup = float(self.warmup_steps)
        return self.peak * ops.minimum(update / warmup, ops.sqrt(warmup / update))

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}
