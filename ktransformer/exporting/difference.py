"""Compares an export's outputs with its model's."""

from collections.abc import Callable, Hashable, Mapping

import numpy as np

from ktransformer.exporting.matching import (
    Outputs,
    RankedBy,
    list_choices,
    match,
    number_of_choices,
)

# Of scores and logits, as a share of the greatest: for rounding, and for weights of few bits. The
# second only finds a broken model; `verify` measures the cost of quantisation on real text.
TOLERANCE, ROUGH_TOLERANCE = 1e-3, 0.25


def find_difference(
    expected: Outputs,
    outputs: Outputs,
    tolerance: float,
    search_wider: Callable[[], Outputs] | None = None,
    *,
    ranked_by: RankedBy,
    argmax_of: Mapping[str, str] | None = None,
    pad_id: int = 0,
) -> str | None:
    """Compares the outputs of a model and of its conversion for the same inputs.

    Choices, such as texts, are compared by content, not by place: two that are equally good may
    swap places.

    Args:
        expected: The model's outputs.
        outputs: The conversion's.
        tolerance: How far numbers may be off, as a share of the greatest.
        search_wider: Gives more of the model's choices. A choice that `expected` lacks must then
            be among these, as good as the one in whose place it stands: rounding decides between
            the two. None where any choice will do, for weights of few bits; the numbers of equal
            choices are compared, and by place for an input of which no choice is equal.
        ranked_by: The choices, each with the number that ranks it; see `Task.RANKED_BY`.
        argmax_of: The places of the greatest of other outputs; see `Task.ARGMAX_OF`. Of two that
            are equally great, any will do.
        pad_id: The padding of choices that are ids.

    Returns:
        The name of an output that differs; None where there is none.
    """
    argmax_of = argmax_of or {}
    number = number_of_choices(expected, ranked_by)
    names = [key for key in ranked_by if key in expected]
    ranked = set() if number is None else {number, *names}
    for key, wanted in expected.items():
        if key in ranked:
            shape = expected[str(number)].shape  # Other ids may be more or fewer.
            same = outputs[key].shape[: len(shape)] == shape
        elif key in argmax_of:
            same = _are_greatest(outputs[key], expected[argmax_of[key]], tolerance)
        else:
            same = _is_close(wanted, outputs[key], tolerance)
        if not same:
            return key
    if number is None:
        return None
    if search_wider is not None and not _is_close(expected[number], outputs[number], tolerance):
        return number
    return _compare_choices(
        {key: expected[key] for key in (*names, number)},
        {key: outputs[key] for key in (*names, number)},
        number,
        _limit(expected[number], tolerance),
        search_wider,
        pad_id,
    )


def _compare_choices(
    expected: Outputs,
    outputs: Outputs,
    number: str,
    limit: float,
    search_wider: Callable[[], Outputs] | None,
    pad_id: int,
) -> str | None:
    """Returns the name of the choice or number that differs; see `find_difference`."""
    names = [key for key in expected if key != number]
    listed, found = (
        list_choices(each, names, number, pad_id=pad_id) for each in (expected, outputs)
    )
    numbers, got = (each[number].reshape(len(listed), -1) for each in (expected, outputs))
    for row, (choices, others) in enumerate(zip(listed, found, strict=True)):
        matched = match(choices, others)
        any_will_do = search_wider is None and not matched.equal
        for i, j in matched.unequal if any_will_do else matched.equal:
            if not abs(numbers[row, i] - got[row, j]) <= limit:
                return number
        if search_wider is None or not matched.unequal:
            continue
        known = _numbers_by_choice(search_wider(), names, number, row, pad_id)
        for i, j in matched.unequal:
            as_good = (
                abs(value - numbers[row, i]) <= limit and abs(value - got[row, j]) <= limit
                for value in known.get(others[j], ())
            )
            if not any(as_good):
                pairs = zip(names, choices[i], others[j], strict=True)
                return next(name for name, one, other in pairs if one != other)
    return None


def _numbers_by_choice(
    outputs: Outputs, names: list[str], number: str, row: int, pad_id: int
) -> dict[Hashable, list[float]]:
    """Returns how good each choice for an input is; one text may stand for several sequences."""
    numbers: dict[Hashable, list[float]] = {}
    if outputs:
        choices = list_choices(outputs, names, number, pad_id=pad_id)[row]
        for choice, value in zip(choices, outputs[number][row].tolist(), strict=True):
            numbers.setdefault(choice, []).append(value)
    return numbers


def _limit(wanted: np.ndarray, tolerance: float) -> float:
    return tolerance * max(1.0, float(np.abs(wanted).max()))


def _are_greatest(places: np.ndarray, numbers: np.ndarray, tolerance: float) -> bool:
    """Tells whether the numbers `[..., N]` at places `[...]` are the greatest of their rows."""
    if places.shape != numbers.shape[:-1]:
        return False
    if not ((places >= 0) & (places < numbers.shape[-1])).all():
        return False
    chosen = np.take_along_axis(numbers, places[..., None], axis=-1)
    return bool((chosen >= numbers.max(-1, keepdims=True) - _limit(numbers, tolerance)).all())


def _is_close(wanted: np.ndarray, got: np.ndarray, tolerance: float) -> bool:
    """Tells whether numbers are close, or anything else is equal; NaN is close to nothing."""
    if wanted.dtype.kind != "f":
        return np.array_equal(wanted, got)
    close = (
        np.abs(got - wanted) <= _limit(wanted, tolerance) if wanted.shape == got.shape else False
    )
    return bool(np.all(close))
