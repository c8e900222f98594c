"""Checks of arguments; an error names the argument, the rule and the value.

Checks of tensors look at static shapes alone, so a graph pays nothing for them.
"""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops


def check_sizes(**sizes: int) -> None:
    """Raises a `ValueError` for a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {name}={size}.")


def to_size(name: str, value: Any, *, least: int = 1) -> int:
    """Returns a size as a Python int; it may be a NumPy integer.

    Raises:
        TypeError: It is no integer.
        ValueError: It is below `least`.
    """
    try:
        size = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {name}={value!r}.") from None
    if size < least:
        raise ValueError(f"{name} must be at least {least}; got {name}={size}.")
    return size


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises a `ValueError` for a value that is not one of the choices."""
    if value not in (names := tuple(choices)):
        raise ValueError(f"{name} must be one of {names}; got {name}={value!r}.")


def check_dropouts(**rates: float) -> None:
    """Raises a `ValueError` for a dropout probability that is not in [0, 1)."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must be in [0, 1); got {name}={rate}.")


def check_made(maker: str, made: Any) -> None:
    """Raises a `TypeError` where the method `maker` made something else than a layer."""
    if not isinstance(made, keras.layers.Layer):
        raise TypeError(f"{maker} must return a keras.layers.Layer; got {made!r}.")


def check_multiple(**sizes: int) -> None:
    """Raises a `ValueError` where the first of two sizes is no multiple of the second."""
    (name, size), (part_name, part) = sizes.items()
    if size % part:
        raise ValueError(
            f"{name} must be a multiple of {part_name}; got {name}={size}, {part_name}={part}."
        )


def check_axes(name: str, tensor: Any, axes: str) -> None:
    """Raises an error for another number of axes than those named, such as `[B, T, D]`.

    A `TypeError` for what is no tensor, otherwise a `ValueError`.
    """
    if not hasattr(tensor, "shape"):
        raise TypeError(f"{name} must be a tensor {axes}; got {_described(tensor)}.")
    shape = _known_shape(tensor)
    if shape is not None and len(shape) != axes.count(",") + 1:
        raise ValueError(f"{name} must have the shape {axes}; got {shape}.")


def check_mask(
    name: str, mask: Any | None, sequence_name: str, sequence: Any, *, pairs: bool = False
) -> None:
    """Raises a `ValueError` for a mask that is not `[B, T]` of a sequence `[B, T, D]`.

    With `pairs` it may be `[B, T, T]` as well: what each position sees.
    """
    if mask is None:
        return
    shape, whole = _known_shape(mask), _known_shape(sequence)
    if shape is None or whole is None:
        return
    expected = (whole[0], whole[1], whole[1]) if pairs and len(shape) == 3 else whole[:2]
    rows_fit = len(shape) == len(expected) and shape[0] in (1, None, expected[0] or shape[0])
    if not rows_fit or any(
        None not in pair and pair[0] != pair[1]
        for pair in zip(shape[1:], expected[1:], strict=True)
    ):
        raise ValueError(
            f"{name} must have the shape [B, T]{' or [B, T, T]' if pairs else ''} of "
            f"{sequence_name} [B, T, D]; got {name} {shape}, {sequence_name} {whole}."
        )


def describe_axes(axes: str | Mapping[str, str]) -> str:
    """Says what `check_inputs` expects, such as `a dict {'ids': [B, T]}`."""
    if isinstance(axes, str):
        return f"a tensor {axes}"
    return "a dict {" + ", ".join(f"{name!r}: {shape}" for name, shape in axes.items()) + "}"


def check_inputs(inputs: Any, axes: str | Mapping[str, str]) -> None:
    """Checks a model's inputs by the axes of each, such as `{"ids": "[B, T]"}`.

    Raises:
        TypeError: `inputs` is no dict, or no tensor.
        ValueError: A key is missing, or a tensor has another number of axes.
    """
    if isinstance(axes, str):
        check_axes("inputs", inputs, axes)
        return
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs must be {describe_axes(axes)}; got {_described(inputs)}.")
    if not axes.keys() <= inputs.keys():
        raise ValueError(f"inputs must be {describe_axes(axes)}; got the keys {sorted(inputs)}.")
    for name, shape in axes.items():
        check_axes(name, inputs[name], shape)


def check_ids(name: str, ids: Any, limit: int) -> None:
    """Raises a `ValueError` for an id outside [0, limit), unless a graph is being traced.

    Strings are a `TypeError`, in a graph as well.
    """
    if keras.backend.standardize_dtype(ids.dtype) == "string":
        raise TypeError(f"{name} must be ids, ints in [0, {limit}); got strings.")
    try:
        values = ops.convert_to_numpy(ids)
    except (NotImplementedError, TypeError):  # TensorFlow's and JAX' tracers have no values.
        return
    wrong = values[(values < 0) | (values >= limit)]
    if np.size(wrong):
        raise ValueError(f"{name} must be in [0, {limit}); got {wrong[0]}.")


def _known_shape(tensor: Any) -> tuple[int | None, ...] | None:
    """Returns the static shape; None where not even the number of axes is known."""
    shape = tensor.shape
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def _described(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"a tensor of shape {_known_shape(value)}"
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else repr(value)
