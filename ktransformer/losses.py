"""The training loss: label-smoothed cross-entropy per real token."""

from typing import Any

import keras
from keras import ops


def smoothed_cross_entropy(labels: Any, logits: Any, label_smoothing: float = 0.0) -> Any:
    """Computes each position's cross-entropy against a smoothed one-hot distribution.

    The target distribution is `(1 - e) * one_hot(label) + e / V`. The gradient is written out,
    so that neither the distribution nor the log-probabilities, both `[B, T, V]`, are ever made.

    Args:
        labels: Int tensor `[B, T]`.
        logits: Float tensor `[B, T, V]`.
        label_smoothing: e, in [0, 1).

    Returns:
        Float32 tensor `[B, T]`.

    Reference: Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4.
    """
    vocabulary_size = logits.shape[-1]
    confidence = 1.0 - label_smoothing
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))  # [N], N = B * T
    positions = ops.stack([ops.arange(ops.shape(labels)[0], dtype="int32"), labels], axis=1)

    @ops.custom_gradient
    def losses(flat_logits: Any) -> Any:
        highest = ops.max(flat_logits, axis=-1)  # [N]
        exponentials = ops.exp(flat_logits - highest[:, None])  # Kept for the gradient.
        totals = ops.sum(exponentials, axis=-1)
        label_logits = ops.take_along_axis(flat_logits, labels[:, None], axis=-1)[:, 0]
        values = highest + ops.log(totals) - confidence * label_logits
        if label_smoothing:
            values = values - label_smoothing * ops.mean(flat_logits, axis=-1)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            upstream = arguments[0] if upstream is None else upstream
            floor = label_smoothing / vocabulary_size
            scale = upstream / totals
            dense = exponentials * scale[:, None] - (floor * upstream)[:, None]
            at_labels = ops.exp(label_logits - highest) * scale - (floor + confidence) * upstream
            return ops.scatter_update(dense, positions, at_labels)

        return values, gradient

    flat_logits = ops.cast(ops.reshape(logits, (-1, vocabulary_size)), "float32")
    return ops.reshape(losses(flat_logits), ops.shape(logits)[:-1])


_CHUNK_ROWS = 512  # Of the hidden states: enough for a matrix product to be at its fastest.


def projected_losses(
    hidden: Any,
    table: Any,
    labels: Any,
    weights: Any,
    label_smoothing: float = 0.0,
    *,
    differentiable: bool = True,
) -> tuple[Any, Any, Any]:
    """Computes losses from hidden states, without ever making the logits of all positions.

    The output projection, the loss and both gradients are computed for some hundred positions at
    a time, so that the largest tensor is `[512, V]`; positions that weigh nothing are left out.

    Args:
        hidden: Float tensor `[B, T, D]`.
        table: Float tensor `[V, D]`: the logits are `hidden @ transpose(table)`.
        labels: Int tensor `[B, T]`.
        weights: Float tensor `[B, T]`, what each position counts; 0 for padding.
        label_smoothing: e, in [0, 1).
        differentiable: Whether gradients are wanted: they cost twice the rest, and are computed
            with it. Only the first result has one.

    Returns:
        Three float32 scalars, sums over the positions by their weights: the losses that
        `smoothed_cross_entropy` gives; the same without smoothing; and 1 for each label that no
        logit is above.

    Reference: Hsu et al. 2024, "Liger Kernel" (there with the gradient in the logits' place).
    """
    vocabulary_size, width = table.shape
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))
    weights = ops.reshape(ops.cast(weights, "float32"), (-1,))
    hidden = ops.reshape(hidden, (-1, width))  # [N, D]
    padding = -ops.shape(labels)[0] % _CHUNK_ROWS  # The last chunk is as large as the others.
    labels, weights = (ops.pad(x, [(0, padding)]) for x in (labels, weights))
    order = ops.argsort(ops.cast(weights == 0, "int32"))  # What counts comes first.
    real = ops.sum(ops.cast(weights != 0, "int32"))
    chunks = (real + _CHUNK_ROWS - 1) // _CHUNK_ROWS
    confidence = 1.0 - label_smoothing
    rows = ops.arange(_CHUNK_ROWS, dtype="int32")

    @ops.custom_gradient
    def sums(hidden: Any, table: Any) -> Any:
        dtype = hidden.dtype
        transposed = ops.transpose(table)
        mean_row = ops.mean(ops.cast(table, "float32"), axis=0)  # [D]

        def step(i: Any, sums: Any, *gradients: Any) -> tuple[Any, ...]:
            chosen = ops.slice(order, [i * _CHUNK_ROWS], [_CHUNK_ROWS])
            states = ops.take(hidden, chosen, axis=0)  # [C, D]
            weight = ops.take(weights, chosen)
            label = ops.take(labels, chosen)
            logits = ops.cast(ops.matmul(states, transposed), "float32")  # [C, V]
            highest = ops.max(logits, axis=-1)
            exponentials = ops.exp(logits - highest[:, None])
            totals = ops.sum(exponentials, axis=-1)
            label_logits = ops.take_along_axis(logits, label[:, None], axis=-1)[:, 0]
            plain = highest + ops.log(totals) - label_logits
            smoothed = plain
            if label_smoothing:
                mean_logits = ops.matmul(ops.cast(states, "float32"), mean_row)
                smoothed = plain + label_smoothing * (label_logits - mean_logits)
            right = ops.cast(ops.greater_equal(label_logits, highest), "float32")
            sums = sums + ops.stack([ops.sum(x * weight) for x in (smoothed, plain, right)])
            if not differentiable:
                return i + 1, sums
            # Softmax less labels, times each row's total, by which the small side of a product is
            # divided. What smoothing takes off is alike for all ids and follows at the end.
            of_hidden, of_table = gradients
            at_labels = ops.exp(label_logits - highest) - confidence * totals
            residuals = ops.scatter_update(exponentials, ops.stack([rows, label], 1), at_labels)
            scale = (weight / totals)[:, None]
            if dtype != "float32":  # Half precision does not hold the total of a large vocabulary.
                residuals, scale = residuals / totals[:, None], weight[:, None]
            residuals = ops.cast(residuals, dtype)
            of_states = ops.cast(ops.matmul(residuals, table), "float32") * scale
            scaled = ops.cast(ops.cast(states, "float32") * scale, dtype)
            product = ops.matmul(ops.transpose(residuals), scaled)  # [V, D]
            of_hidden = ops.scatter_update(of_hidden, chosen[:, None], of_states)
            return i + 1, sums, of_hidden, of_table + ops.cast(product, "float32")

        start: tuple[Any, ...] = (ops.zeros((), "int32"), ops.zeros((3,), "float32"))
        if differentiable:
            start += (ops.zeros_like(hidden, "float32"), ops.zeros_like(table, "float32"))
        found = ops.while_loop(lambda i, *_: i < chunks, step, start)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            upstream = arguments[0] if upstream is None else upstream
            of_hidden, of_table = found[2:]
            if label_smoothing:
                weighted = ops.cast(hidden, "float32") * weights[:, None]
                of_hidden = of_hidden - label_smoothing * weights[:, None] * mean_row
                of_table = of_table - label_smoothing / vocabulary_size * ops.sum(weighted, axis=0)
            return tuple(ops.cast(x * upstream[0], dtype) for x in (of_hidden, of_table))

        return found[1], gradient

    padded = ops.pad(hidden, [(0, padding), (0, 0)])
    loss, plain, right = ops.unstack(sums(padded, table))
    return loss, ops.stop_gradient(plain), ops.stop_gradient(right)


@keras.saving.register_keras_serializable(package="ktransformer")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Label-smoothed cross-entropy, averaged over the real tokens of a batch.

    Padded labels count neither in the sum nor in the number of tokens it is divided by.

    Args:
        label_smoothing: Probability mass spread evenly over the vocabulary, in [0, 1).
        pad_id: The label that marks padding.
        name: Name of the loss.

    Call arguments:
        y_true: Int tensor `[B, T]`.
        y_pred: Logits `[B, T, V]`.

    Returns:
        A float32 scalar, in nats per token.

    Raises:
        ValueError: `label_smoothing` is not in [0, 1).

    Masking: by the labels alone; a mask that the logits carry is ignored.

    Reference: Vaswani et al. 2017, section 5.4.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        *,
        pad_id: int = 0,
        name: str = "smoothed_cross_entropy",
    ) -> None:
        super().__init__(name=name)
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing must be in [0, 1); got label_smoothing={label_smoothing}."
            )
        self.label_smoothing = label_smoothing
        self.pad_id = pad_id

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        """Returns the mean over real tokens, each counted by its `sample_weight` if given."""
        losses = smoothed_cross_entropy(y_true, y_pred, self.label_smoothing)
        weights = token_weights(y_true, self.pad_id, sample_weight)
        return ops.sum(losses * weights) / _or_one(self.total_weight(weights))

    def total_weight(self, weights: Any) -> Any:
        """Returns what the sum of the losses is divided by, from `weights`, float `[B, T]`.

        A subclass overrides it where `weights` are of a part of the batch alone.
        """
        return ops.sum(weights)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return smoothed_cross_entropy(y_true, y_pred, self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        return {
            "label_smoothing": self.label_smoothing,
            "pad_id": self.pad_id,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="ktransformer")
class RDrop(SmoothedCrossEntropy):
    """Label-smoothed cross-entropy of two passes, and how far dropout drives them apart.

    A batch holds its rows twice, the second time in its second half (`TokenBatches(copies=2)`), so
    that one pass of the model is two with different dropout. To the mean cross-entropy comes
    alpha / 2 times the mean of the two Kullback-Leibler divergences, per real token.

    Args:
        label_smoothing: Probability mass spread evenly over the vocabulary, in [0, 1).
        alpha: Weight of the divergence, at least 0; the paper's is 5.
        pad_id: The label that marks padding.
        name: Name of the loss.

    Call arguments:
        y_true: Int tensor `[2B, T]`, the second half equal to the first.
        y_pred: Logits `[2B, T, V]`.

    Returns:
        A float32 scalar, in nats per token.

    Raises:
        ValueError: `label_smoothing` is not in [0, 1), or `alpha` is below 0.

    Masking: by the labels alone.

    Reference: Liang et al. 2021, equations 2 to 4, divided by 2.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        *,
        alpha: float = 5.0,
        pad_id: int = 0,
        name: str = "r_drop",
    ) -> None:
        super().__init__(label_smoothing, pad_id=pad_id, name=name)
        if alpha < 0:
            raise ValueError(f"alpha must be at least 0; got alpha={alpha}.")
        self.alpha = alpha

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> Any:
        """Returns the mean over real tokens, each counted by its `sample_weight` if given."""
        loss = super().__call__(y_true, y_pred, sample_weight)
        weights = ops.split(token_weights(y_true, self.pad_id, sample_weight), 2)[0]
        first, second = ops.split(ops.log_softmax(ops.cast(y_pred, "float32")), 2)
        # KL(p, q) + KL(q, p), of each token.
        divergences = ops.sum((ops.exp(first) - ops.exp(second)) * (first - second), axis=-1)
        divergence = ops.sum(divergences * weights) / _or_one(ops.sum(weights))
        return loss + self.alpha / 4 * divergence

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


def _or_one(total: Any) -> Any:
    """Returns what to divide a sum by, which is 0 where there is nothing to weigh."""
    return ops.where(ops.equal(total, 0.0), 1.0, total)


def token_weights(labels: Any, pad_id: int, sample_weight: Any | None = None) -> Any:
    """Weighs each label: 0 for padding, else its sample weight or 1; float32 `[B, T]`."""
    weights = ops.cast(ops.not_equal(labels, pad_id), "float32")
    if sample_weight is None:
        return weights
    sample_weight = ops.cast(sample_weight, "float32")
    if len(sample_weight.shape) == 1:  # One weight a sentence.
        sample_weight = sample_weight[:, None]
    return weights * sample_weight
