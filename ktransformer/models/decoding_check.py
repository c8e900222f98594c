"""Compares cached decoding with calls on whole targets: a subclass may change one of them alone."""

from typing import Any

import keras
from keras import ops

from ktransformer.layers.overrides import check_overrides
from ktransformer.layers.tensors import Ids
from ktransformer.models.next_token_model import NextTokenModel
from ktransformer.models.transformer import Transformer

TOLERANCES = {"float32": 1e-2, "float16": 5e-2, "bfloat16": 0.1}
"""How far logits may lie apart, as a share of the greatest, by the dtype a model computes in. In
float32, too, devices may multiply matrices with 11 bits of precision."""

_ROWS, _SOURCE_LENGTH = 3, 6
_CHUNK = 2  # Steps in a cache of fixed room, and between two calls of `flush` in a chunked one.


def check_decoder_overrides(model: NextTokenModel) -> None:
    """Refuses a model in which a subclass overrides a method that cached decoding does not call.

    Args:
        model: A built `Transformer` or `CausalLanguageModel`.

    Raises:
        NotImplementedError: The model, its target embedding, its decoder, or a block or attention
            in it overrides a method of whole sequences, such as `call`, and not its counterpart.
    """
    check_overrides(model)
    check_overrides(model.target_embedding)
    check_overrides(model.decoder)
    for block in getattr(model.decoder, "blocks", ()):
        check_overrides(block)
        for part in ("self_attention", "cross_attention"):
            check_overrides(getattr(block, part, None))


def check_decoding(
    model: NextTokenModel, *, tolerance: float | None = None, columns: bool = False, seed: int = 0
) -> float:
    """Checks that cached decoding gives the logits of calls on whole targets, on random ids.

    It decodes several rows, of a `Transformer` with padded sources: one hypothesis of each in a
    cache of fixed room, and two, reordered, in a chunked one. Every export runs it.

    Args:
        model: A `Transformer`, a `CausalLanguageModel` or a subclass; built here if it is not yet.
        tolerance: How far logits may lie apart, as a share of the greatest of them; None for the
            one of `TOLERANCES` for the model's dtype.
        columns: Whether steps for some ids alone are compared as well, which a shortlist and a
            compiled search take.
        seed: The same seed draws the same ids.

    Returns:
        The greatest difference of a logit, as a share of the greatest logit.

    Raises:
        NotImplementedError: See `check_decoder_overrides`.
        ValueError: The logits lie further apart; the message says how far, and at which position.

    Example:
        ```python
        check_decoding(GatedTransformer.from_preset("tiny", 8000))
        ```
    """
    if not model.built:
        model.build()
    check_decoder_overrides(model)
    if tolerance is None:
        tolerance = TOLERANCES.get(model.compute_dtype, TOLERANCES["float32"])
    source = _draw_sources(model, seed) if isinstance(model, Transformer) else None
    cases = [(1, None), (2, None), *([(1, _some_ids(model))] if columns else [])]
    return max(
        _compare(model, source, beam_size, chosen, tolerance, seed) for beam_size, chosen in cases
    )


def _compare(
    model: NextTokenModel,
    source: Ids | None,
    beam_size: int,
    chosen: Any,
    tolerance: float,
    seed: int,
) -> float:
    """Decodes in steps and in one call, and returns the difference as a share."""
    targets, steps = _decode(model, source, beam_size, chosen, seed)
    targets = ops.reshape(targets, (-1, targets.shape[2]))  # [B*K, T]
    inputs: Any = targets
    if source is not None:
        inputs = {"source": ops.repeat(source, beam_size, axis=0), "target": targets}
    whole = model(inputs, training=False)
    whole = whole if chosen is None else ops.take(whole, chosen, axis=2)
    whole = ops.cast(ops.reshape(whole, steps.shape), "float32")
    gaps = ops.convert_to_numpy(ops.max(ops.abs(steps - whole), axis=(0, 1, 3)))  # [T]
    greatest = float(ops.max(ops.abs(whole)))
    share = float(gaps.max()) / greatest if greatest else float(gaps.max())
    if not share <= tolerance:  # NaN, too.
        raise ValueError(
            f"Cached decoding of this {type(model).__name__} gives other logits than a call on the "
            f"whole target: they differ by up to {gaps.max():.3g} at position {gaps.argmax()}, "
            f"where at most {tolerance * greatest:.3g} was allowed; step (and project_memory and "
            "prepare_memory, where there is a memory) must do the same as call."
        )
    return share


def _decode(
    model: NextTokenModel, source: Ids | None, beam_size: int, chosen: Any, seed: int
) -> tuple[Any, Any]:
    """Feeds random tokens to cached steps: targets `[B, K, T]` and their logits `[B, K, T, V]`.

    Before each step every hypothesis continues a random one of its sentence.
    """
    rows, chunked = _ROWS, beam_size > 1
    length = min(2 * _CHUNK if chunked else _CHUNK, model.max_length)
    memory = () if source is None else model.prepare_memory(source)
    state = model.empty_state(rows, _CHUNK, beam_size=beam_size, chunked=chunked)
    columns = None if chosen is None else model.output_columns(chosen)
    tokens = _draw_ids(model, (length, rows, beam_size), seed + 1)
    parents = keras.random.randint((length, rows, beam_size), 0, beam_size, seed=seed + 2)
    logits = []
    for index in range(length):
        if chunked and index and index % _CHUNK == 0:
            state = state.flush()
        penalty = keras.tree.map_structure(lambda x, i=index: _follow(x, parents[i]), state.penalty)
        ids = ops.reshape(tokens[index], (-1,))
        found, state = model.step(ids, index, state._replace(penalty=penalty), memory, columns)
        logits.append(ops.reshape(ops.cast(found, "float32"), (rows, beam_size, -1)))
    return _ancestors(tokens[..., None], parents)[..., 0], _ancestors(logits, parents)


def _ancestors(values: Any, parents: Any) -> Any:
    """Picks what the last hypotheses descend from: T values `[B, K, X]` -> `[B, K, T, X]`.

    `parents`, ints `[T, B, K]`, says which hypothesis of the step before each one continues.
    """
    length, beam_size = parents.shape[0], parents.shape[2]
    order, picked = ops.zeros_like(parents[0]) + ops.arange(beam_size, dtype="int32"), []
    for index in reversed(range(length)):
        picked.append(_follow(values[index], order))
        order = _follow(parents[index][..., None], order)[..., 0]
    return ops.stack(picked[::-1], axis=2)


def _follow(tensor: Any, parents: Any) -> Any:
    """Picks the entries of each hypothesis' parent: `[B, K, X]` by `[B, K]`."""
    return ops.take_along_axis(tensor, ops.expand_dims(parents, 2), axis=1)


def _draw_sources(model: Transformer, seed: int) -> Any:
    """Draws sources `[B, S]` of several lengths, padded."""
    length = min(_SOURCE_LENGTH, model.max_length)
    lengths = ops.convert_to_tensor([[length], [(length + 1) // 2], [1]], "int32")
    ids = _draw_ids(model, (_ROWS, length), seed, model.source_vocabulary_size)
    return ops.where(ops.arange(length, dtype="int32") < lengths, ids, model.pad_id)


def _draw_ids(
    model: NextTokenModel, shape: tuple[int, ...], seed: int, vocabulary_size: int | None = None
) -> Any:
    """Draws ids of a vocabulary that neither pad a row nor begin another text in it.

    `vocabulary_size` is its size; None for the one that the model writes in.
    """
    segment_start = getattr(model, "segment_start_id", None)
    excluded = sorted({model.pad_id} if segment_start is None else {model.pad_id, segment_start})
    limit = max((vocabulary_size or model.vocabulary_size) - len(excluded), 1)
    ids = keras.random.randint(shape, 0, limit, seed=seed)
    for each in excluded:
        ids = ids + ops.cast(ids >= each, "int32")
    return ids


def _some_ids(model: NextTokenModel) -> Any:
    """Returns ids from all over the vocabulary, ascending."""
    step = max(model.vocabulary_size // 100, 2)
    return ops.arange(0, model.vocabulary_size, step, dtype="int32")
