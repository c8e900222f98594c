"""Losses from hidden states: output projection, loss and gradients a chunk of positions at a time.

Letters of the shapes: N positions, C positions of a chunk, D width, V vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

_CHUNK_ROWS = 512  # C: enough for a matrix product to be at its fastest.


def projected_losses(
    hidden: Any,
    table: Any,
    labels: Any,
    weights: Any,
    label_smoothing: float = 0.0,
    *,
    differentiable: bool = True,
    table_differentiable: bool = True,
) -> tuple[Any, Any, Any]:
    """Computes losses from hidden states without storing the logits of all positions.

    The output projection, the loss and both gradients are computed for 512 positions at a time, so
    that the largest tensor is `[512, V]`. Positions of weight 0 are skipped.

    Args:
        hidden: Float tensor `[B, T, D]`.
        table: Float tensor `[V, D]`: the logits are `hidden @ transpose(table)`.
        labels: Int tensor `[B, T]`.
        weights: Float tensor `[B, T]`, the weight of each position; 0 for padding.
        label_smoothing: e, in [0, 1).
        differentiable: Whether the first result has gradients. They are computed with the losses
            and cost twice as much.
        table_differentiable: Whether one of them is the table's; a frozen table needs none.

    Returns:
        Three float32 scalars, sums over the positions by their weights: the losses of
        `smoothed_cross_entropy`; the same without smoothing; and the correct predictions, where
        ties count as correct. Only the first has gradients.

    Reference: Hsu et al. 2024, "Liger Kernel" (there the gradient overwrites the logits).
    """
    vocabulary_size, width = table.shape
    labels = ops.reshape(ops.cast(labels, "int32"), (-1,))  # [N]
    weights = ops.reshape(ops.cast(weights, "float32"), (-1,))
    hidden = ops.reshape(hidden, (-1, width))
    padding = -ops.shape(labels)[0] % _CHUNK_ROWS  # All chunks have the same size.
    labels, weights = (ops.pad(x, [(0, padding)]) for x in (labels, weights))
    positions = _sort_positions(labels, weights)

    @ops.custom_gradient
    def sums(hidden: Any, table: Any) -> Any:
        mean_row = ops.mean(ops.cast(table, "float32"), axis=0)  # [D]
        found = _sum_chunks(
            hidden,
            table,
            mean_row,
            positions,
            label_smoothing,
            (differentiable, differentiable and table_differentiable),
        )

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            upstream = arguments[0] if upstream is None else upstream
            of_hidden = found[2]
            of_table = found[3] if table_differentiable else ops.zeros_like(table, "float32")
            if label_smoothing:  # e times the mean logit, whose gradient is alike for all ids.
                weighted = ops.cast(hidden, "float32") * weights[:, None]
                of_hidden = of_hidden - label_smoothing * weights[:, None] * mean_row
                of_table = of_table - label_smoothing / vocabulary_size * ops.sum(weighted, axis=0)
            return tuple(ops.cast(x * upstream[0], hidden.dtype) for x in (of_hidden, of_table))

        return found[1], gradient

    padded = ops.pad(hidden, [(0, padding), (0, 0)])
    loss, plain, right = ops.unstack(sums(padded, table))
    return loss, ops.stop_gradient(plain), ops.stop_gradient(right)


class _Positions(NamedTuple):
    """The positions of a batch, those that count first."""

    labels: Any  # [N]
    weights: Any  # [N]
    order: Any  # [N], indices into the others.
    chunks: Any  # Number of chunks that hold a position that counts.


class _Chunk(NamedTuple):
    """C positions and their softmax, unnormalized."""

    indices: Any  # [C]
    states: Any  # [C, D]
    labels: Any  # [C]
    weights: Any  # [C]
    highest: Any  # [C], the largest logit.
    exponentials: Any  # [C, V], of the logits less the largest.
    totals: Any  # [C], sums of the exponentials.
    label_logits: Any  # [C]


def _sort_positions(labels: Any, weights: Any) -> _Positions:
    order = ops.argsort(ops.cast(weights == 0, "int32"))
    real = ops.sum(ops.cast(weights != 0, "int32"))
    return _Positions(labels, weights, order, (real + _CHUNK_ROWS - 1) // _CHUNK_ROWS)


def _sum_chunks(
    hidden: Any,
    table: Any,
    mean_row: Any,
    positions: _Positions,
    label_smoothing: float,
    differentiable: tuple[bool, bool],
) -> tuple[Any, ...]:
    """Adds up the losses of all chunks and their gradients by what is `differentiable`.

    Returns:
        The number of chunks; the three sums, `[3]`; and of hidden states and table, as far as
        `differentiable` has them, the gradients of the first sum, without the mean logit of the
        smoothing: `[N, D]` and `[V, D]`, float32.
    """
    transposed = ops.transpose(table)
    rows = ops.arange(_CHUNK_ROWS, dtype="int32")

    def step(i: Any, sums: Any, *gradients: Any) -> tuple[Any, ...]:
        chunk = _take_chunk(i, positions, hidden, transposed)
        sums = sums + _chunk_sums(chunk, mean_row, label_smoothing)
        if not differentiable[0]:
            return i + 1, sums
        of_states, product = _chunk_gradients(chunk, rows, table, 1.0 - label_smoothing)
        of_hidden = ops.scatter_update(gradients[0], chunk.indices[:, None], of_states)
        if not differentiable[1]:
            return i + 1, sums, of_hidden
        return i + 1, sums, of_hidden, gradients[1] + ops.cast(product(), "float32")

    start: tuple[Any, ...] = (ops.zeros((), "int32"), ops.zeros((3,), "float32"))
    gradients = zip(differentiable, (hidden, table), strict=True)
    start += tuple(ops.zeros_like(of, "float32") for wanted, of in gradients if wanted)
    return ops.while_loop(lambda i, *_: i < positions.chunks, step, start)


def _take_chunk(i: Any, positions: _Positions, hidden: Any, transposed: Any) -> _Chunk:
    """Gathers chunk `i` and computes its logits; `transposed` is the table, `[D, V]`."""
    indices = ops.slice(positions.order, [i * _CHUNK_ROWS], [_CHUNK_ROWS])
    states = ops.take(hidden, indices, axis=0)
    weights = ops.take(positions.weights, indices)
    labels = ops.take(positions.labels, indices)
    logits = ops.cast(ops.matmul(states, transposed), "float32")  # [C, V]
    highest = ops.max(logits, axis=-1)
    exponentials = ops.exp(logits - highest[:, None])
    totals = ops.sum(exponentials, axis=-1)
    label_logits = ops.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return _Chunk(indices, states, labels, weights, highest, exponentials, totals, label_logits)


def _chunk_sums(chunk: _Chunk, mean_row: Any, label_smoothing: float) -> Any:
    """Returns the chunk's smoothed loss, its plain loss and its correct predictions: `[3]`."""
    plain = chunk.highest + ops.log(chunk.totals) - chunk.label_logits
    smoothed = plain
    if label_smoothing:
        mean_logits = ops.matmul(ops.cast(chunk.states, "float32"), mean_row)
        smoothed = plain + label_smoothing * (chunk.label_logits - mean_logits)
    right = ops.cast(ops.greater_equal(chunk.label_logits, chunk.highest), "float32")
    return ops.stack([ops.sum(x * chunk.weights) for x in (smoothed, plain, right)])


def _chunk_gradients(
    chunk: _Chunk, rows: Any, table: Any, confidence: float
) -> tuple[Any, Callable[[], Any]]:
    """Returns the gradient of the chunk's states, `[C, D]`, and the table's, `[V, D]`, as a call.

    `rows` counts from 0 to C - 1. The residuals are softmax less `confidence` at the label, times
    each row's total: it is cheaper to divide the `[C, D]` side of a product than `[C, V]`.
    """
    dtype = chunk.states.dtype
    at_labels = ops.exp(chunk.label_logits - chunk.highest) - confidence * chunk.totals
    residuals = ops.scatter_update(
        chunk.exponentials, ops.stack([rows, chunk.labels], 1), at_labels
    )
    scale = (chunk.weights / chunk.totals)[:, None]
    if dtype != "float32":  # Half precision does not hold the total of a large vocabulary.
        residuals, scale = residuals / chunk.totals[:, None], chunk.weights[:, None]
    residuals = ops.cast(residuals, dtype)
    of_states = ops.cast(ops.matmul(residuals, table), "float32") * scale
    scaled = ops.cast(ops.cast(chunk.states, "float32") * scale, dtype)
    return of_states, lambda: ops.matmul(ops.transpose(residuals), scaled)
