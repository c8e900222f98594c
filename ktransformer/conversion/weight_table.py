"""Tables of weights: our variables, their tensors, and the transform between them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from ktransformer.conversion.problems import Problems
from ktransformer.conversion.tensors import TensorReader


def unchanged(array: np.ndarray) -> np.ndarray:
    """Returns the tensor as it is."""
    return array


def transposed(array: np.ndarray) -> np.ndarray:
    """Turns a kernel `[out, in]` of PyTorch into `[in, out]`."""
    return array.T


def joined(*arrays: np.ndarray) -> np.ndarray:
    """Joins biases `[out]` into one of a fused projection."""
    return np.concatenate(arrays)


def joined_transposed(*arrays: np.ndarray) -> np.ndarray:
    """Joins kernels `[out, in]` into one of a fused projection, `[in, sum of out]`."""
    return np.concatenate(arrays).T


class Weight(NamedTuple):
    """One row of a table: how a variable is made from published tensors.

    Attributes:
        ours: The way to the variable from the model by attributes and indices, such as
            `encoder.blocks.0.self_attention.input_projection.kernel`.
        theirs: The names of the tensors.
        transform: Makes the variable's value from the tensors, in their order.
    """

    ours: str
    theirs: tuple[str, ...]
    transform: Callable[..., np.ndarray] = unchanged


def find_variable(model: keras.Model, path: str) -> keras.Variable:
    """Follows attributes and indices from a model to a variable; see `Weight`."""
    found: Any = model
    for name in path.split("."):
        found = found[int(name)] if name.isdecimal() else getattr(found, name)
    return found


def load_weights(
    model: keras.Model,
    table: Iterable[Weight],
    tensors: TensorReader,
    problems: Problems,
    *,
    unused: Sequence[str] = (),
) -> None:
    """Gives a model the published weights; what is wrong with any of them becomes a problem.

    Missing tensors, tensors that no row uses and wrong shapes are all recorded. Where one is, the
    model is left half assigned and must not be used: call `problems.raise_if_any`.

    Args:
        model: The model, built.
        table: One row for every variable of the model.
        tensors: The published tensors.
        problems: Collects what is wrong.
        unused: Regular expressions of the whole names of tensors that change nothing.

    Raises:
        ValueError: The table lacks a variable of the model: a fault of the table.
    """
    rows = list(table)
    variables = [find_variable(model, row.ours) for row in rows]
    named = {id(variable) for variable in variables}
    lacking = [weight.path for weight in model.weights if id(weight) not in named]
    if lacking:
        raise ValueError(f"The table must have a row for every variable; it lacks {lacking}.")
    for row, variable in zip(rows, variables, strict=True):
        missing = [name for name in row.theirs if name not in tensors]
        for name in missing:
            problems.add(f"it lacks the tensor {name}")
        if not missing:
            _assign(row, variable, tensors, problems)
    used = {name for row in rows for name in row.theirs}
    for name in tensors.names:
        if name not in used and not any(re.fullmatch(each, name) for each in unused):
            problems.add(f"its tensor {name} has no place in the model")


def _assign(
    row: Weight, variable: keras.Variable, tensors: TensorReader, problems: Problems
) -> None:
    shapes = ", ".join(f"{name} {list(tensors.shape(name))}" for name in row.theirs)
    try:
        value = row.transform(*map(tensors.read, row.theirs))
    except (ValueError, IndexError):  # NumPy: the shapes do not go together.
        value = None
    if value is None or tuple(value.shape) != tuple(variable.shape):
        problems.add(f"{shapes} cannot become {row.ours} {list(variable.shape)}")
        return
    variable.assign(value)


def check_shape(tensors: TensorReader, name: str, shape: Sequence[int], problems: Problems) -> None:
    """Compares the shape of a tensor with the configuration, before anything is built.

    Args:
        tensors: The published tensors.
        name: The name of the tensor, which must be there.
        shape: The shape that the configuration gives it.
        problems: Gets a sentence where it is missing or they differ.
    """
    if name not in tensors:
        problems.add(f"it lacks the tensor {name}")
    elif tensors.shape(name) != tuple(shape):
        problems.add(
            f"{name} has the shape {list(tensors.shape(name))}, but the configuration says "
            f"{list(shape)}"
        )


def check_layers(
    tensors: TensorReader, prefix: str, num_layers: int, name: str, problems: Problems
) -> None:
    """Compares the number of layers among the tensors with the configuration.

    Args:
        tensors: The published tensors.
        prefix: What stands before the layer's number, such as `model.encoder.layers.`.
        num_layers: The number that the configuration gives.
        name: The name of that setting.
        problems: Gets a sentence where they differ.
    """
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})\.")
    numbers = {int(found[1]) for each in tensors.names if (found := pattern.match(each))}
    if len(numbers) != num_layers:
        problems.add(f"it holds {len(numbers)} layers {prefix}*, but {name}={num_layers}")


def check_copies(
    tensors: TensorReader, copies: Mapping[str, str], why: str, problems: Problems
) -> tuple[str, ...]:
    """Compares tensors that a folder may hold twice.

    Args:
        tensors: The published tensors.
        copies: The name of the original, by that of its copy; a pair that is not whole is left out.
        why: What a copy with values of its own would mean.
        problems: Gets a sentence for each copy that differs.

    Returns:
        The names of the copies that are there.
    """
    found = tuple(copy for copy, name in copies.items() if copy in tensors and name in tensors)
    for copy in found:
        if not np.array_equal(tensors.read(copy), tensors.read(copies[copy])):
            problems.add(f"its tensor {copy} is not {copies[copy]}: {why}")
    return found
