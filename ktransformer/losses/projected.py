"""Losses from hidden states: output projection, loss and gradients a chunk of positions at a time.

Letters of the shapes: N positions, C positions of a chunk, D width, V vocabulary.
"""

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
    bias: Any = None,
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
        bias: Float32 tensor `[V]` that is added to the logits; None for none.
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
    def sums(hidden: Any, table: Any, *bias: Any) -> Any:
        mean_row = ops.mean(ops.cast(table, "float32"), axis=0)  # [D]
        projection = _Projection(table, ops.transpose(table), mean_row, *bias)
        projection = projection._replace(trained=table_differentiable)
        found = _sum_chunks(hidden, projection, positions, label_smoothing, differentiable)

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            upstream = arguments[0] if upstream is None else upstream
            of_hidden, *of_projection = found[2:]
            if not table_differentiable:
                of_projection = [ops.zeros_like(table, "float32"), *of_projection]
            of_table, *of_bias = of_projection
            if label_smoothing:  # e times the mean logit, whose gradient is alike for all ids.
                weighted = ops.cast(hidden, "float32") * weights[:, None]
                of_hidden = of_hidden - label_smoothing * weights[:, None] * mean_row
                share = label_smoothing / vocabulary_size
                of_table = of_table - share * ops.sum(weighted, axis=0)
                of_bias = [x - share * ops.sum(weights) for x in of_bias]
            gradients = [ops.cast(x * upstream[0], hidden.dtype) for x in (of_hidden, of_table)]
            return (*gradients, *(x * upstream[0] for x in of_bias))

        return found[1], gradient

    padded = ops.pad(hidden, [(0, padding), (0, 0)])
    loss, plain, right = ops.unstack(sums(padded, table, *(() if bias is None else (bias,))))
    return loss, ops.stop_gradient(plain), ops.stop_gradient(right)


class _Projection(NamedTuple):
    """The output projection."""

    table: Any  # [V, D]
    transposed: Any  # [D, V]
    mean_row: Any  # [D], of the table.
    bias: Any = None  # [V], or None.
    trained: bool = True  # Whether the table gets a gradient.


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
    projection: _Projection,
    positions: _Positions,
    label_smoothing: float,
    differentiable: bool,
) -> tuple[Any, ...]:
    """Adds up the losses of all chunks and, if `differentiable`, their gradients.

    Returns:
        The number of chunks; the three sums, `[3]`; and if `differentiable` the gradients of the
        first sum, without the mean logit of the smoothing: `[N, D]`, `[V, D]` and, with a bias,
        `[V]`, float32.
    """
    table = projection.table
    rows = ops.arange(_CHUNK_ROWS, dtype="int32")

    def step(i: Any, sums: Any, *gradients: Any) -> tuple[Any, ...]:
        chunk = _take_chunk(i, positions, hidden, projection)
        sums = sums + _chunk_sums(chunk, projection, label_smoothing)
        if not differentiable:
            return i + 1, sums
        of_hidden, *of_projection = gradients
        of_states, *products = _chunk_gradients(chunk, rows, projection, 1.0 - label_smoothing)
        of_hidden = ops.scatter_update(of_hidden, chunk.indices[:, None], of_states)
        new = [x + ops.cast(y, "float32") for x, y in zip(of_projection, products, strict=True)]
        return i + 1, sums, of_hidden, *new

    start: tuple[Any, ...] = (ops.zeros((), "int32"), ops.zeros((3,), "float32"))
    if differentiable:
        start += (ops.zeros_like(hidden, "float32"),)
        start += (ops.zeros_like(table, "float32"),) if projection.trained else ()
        start += (ops.zeros((table.shape[0],), "float32"),) if projection.bias is not None else ()
    return ops.while_loop(lambda i, *_: i < positions.chunks, step, start)


def _take_chunk(i: Any, positions: _Positions, hidden: Any, projection: _Projection) -> _Chunk:
    """Gathers chunk `i` and computes its logits."""
    indices = ops.slice(positions.order, [i * _CHUNK_ROWS], [_CHUNK_ROWS])
    states = ops.take(hidden, indices, axis=0)
    weights = ops.take(positions.weights, indices)
    labels = ops.take(positions.labels, indices)
    logits = ops.cast(ops.matmul(states, projection.transposed), "float32")  # [C, V]
    if projection.bias is not None:
        logits = logits + projection.bias
    highest = ops.max(logits, axis=-1)
    exponentials = ops.exp(logits - highest[:, None])
    totals = ops.sum(exponentials, axis=-1)
    label_logits = ops.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return _Chunk(indices, states, labels, weights, highest, exponentials, totals, label_logits)


def _chunk_sums(chunk: _Chunk, projection: _Projection, label_smoothing: float) -> Any:
    """Returns the chunk's smoothed loss, its plain loss and its correct predictions: `[3]`."""
    plain = chunk.highest + ops.log(chunk.totals) - chunk.label_logits
    smoothed = plain
    if label_smoothing:
        mean_logits = ops.matmul(ops.cast(chunk.states, "float32"), projection.mean_row)
        if projection.bias is not None:
            mean_logits = mean_logits + ops.mean(projection.bias)
        smoothed = plain + label_smoothing * (chunk.label_logits - mean_logits)
    right = ops.cast(ops.greater_equal(chunk.label_logits, chunk.highest), "float32")
    return ops.stack([ops.sum(x * chunk.weights) for x in (smoothed, plain, right)])


def _chunk_gradients(
    chunk: _Chunk, rows: Any, projection: _Projection, confidence: float
) -> tuple[Any, ...]:
    """Returns the gradients of the chunk's states, `[C, D]`, a trained table, and any bias.

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
    of_states = ops.cast(ops.matmul(residuals, projection.table), "float32") * scale
    scaled = ops.cast(ops.cast(chunk.states, "float32") * scale, dtype)
    gradients = [of_states]
    if projection.trained:
        gradients.append(ops.matmul(ops.transpose(residuals), scaled))
    if projection.bias is not None:
        gradients.append(ops.matmul(ops.cast(ops.transpose(scale), dtype), residuals)[0])
    return tuple(gradients)
