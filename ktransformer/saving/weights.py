"""Weights of a Keras model: checked before they are written, and read so that none is left out."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import keras
import ml_dtypes
import numpy as np

from ktransformer.errors import InputError

# Keras writes a group for each of these, under the names of the attributes that lead to it.
_SAVEABLE = (
    keras.layers.Layer,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.random.SeedGenerator,
)


def check_weights(model: keras.Model) -> None:
    """Checks that a model is built and finite, before anything is written.

    Raises:
        InputError: It has not been built, or a weight is infinite or not a number.
    """
    if not model.built or not model.weights:
        raise InputError(f"The {type(model).__name__} is not built: build it, or call it once.")
    for weight in model.weights:
        if not _is_finite(keras.ops.convert_to_numpy(weight)):
            raise InputError(
                f"The weight {weight.path} holds a number that is infinite or not a number (NaN)."
            )


def digest_weights(model: keras.Model) -> str:
    """Returns the SHA-256 of a built model's weights, in hexadecimal."""
    return digest_arrays(map(keras.ops.convert_to_numpy, model.weights))


def digest_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Returns the SHA-256 of a model's weights, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def _is_finite(values: np.ndarray) -> bool:
    """Tells whether all values are finite; the extremes are NaN where any value is."""
    if not values.size or np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
        return True
    return bool(np.isfinite(values.min()) and np.isfinite(values.max()))


class WeightsFile:
    """The weights of a `.keras` file, in HDF5, as Keras writes them.

    Args:
        content: The whole HDF5 file.

    Raises:
        OSError: It is no HDF5 file.
        ValueError: A part of it lies elsewhere: in another file, or behind a link.
    """

    def __init__(self, content: bytes) -> None:
        # Not from a file object: an exception in its methods would be lost inside HDF5.
        self._file = h5py.File(h5py.h5f.open_file_image(content), "r")
        self._groups = dict(_groups(self._file, ()))
        arrays = [each for group in self._groups.values() for each in group.values()]
        self.num_arrays = len(arrays)
        self.size = sum(
            array.size
            for path, group in self._groups.items()
            if path[:1] != ("optimizer",)  # Where Keras keeps the state of one.
            for array in group.values()
        )
        stored = sum(array.nbytes for array in arrays)
        if stored > len(content):  # Keras compresses nothing: HDF5 would fill in the rest.
            raise ValueError(f"its arrays would have {stored} bytes, but the file {len(content)}.")

    def load_into(self, model: keras.Model) -> None:
        """Gives a built model its weights.

        Keras' own loading takes any error for damage, Ctrl-C and lack of memory too, and leaves
        weights that the file lacks as they were drawn.

        Raises:
            ValueError: A weight is missing, has another shape, or holds a number that is infinite
                or not a number.
        """
        loaded: set[int] = set()
        for path, group in self._groups.items():
            owner = _find(model, path)
            if owner is None or id(owner) in loaded:
                continue  # Such as the state of an optimizer, which this model has none of.
            owner.load_own_variables({name: _read(group, name) for name in group})
            loaded.add(id(owner))
            loaded.update(id(variable) for variable in _own_variables(owner) if len(group))
        missing = [weight.path for weight in model.weights if id(weight) not in loaded]
        if missing:
            raise ValueError(f"it lacks {len(missing)} weights, such as {missing[0]}.")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _own_variables(owner: Any) -> list[Any]:
    """Returns the variables that a layer itself holds, not those of its parts."""
    trainable = getattr(owner, "_trainable_variables", [])
    return [*trainable, *getattr(owner, "_non_trainable_variables", [])]


def _groups(group: h5py.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields each group of arrays with the attributes that lead to its owner."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{'/'.join((*path, name))} is a link.")
        member = group[name]
        if name == "vars" and isinstance(member, h5py.Group):
            _check_arrays(member)
            yield path, member
        elif isinstance(member, h5py.Group):
            yield from _groups(member, (*path, name))


def _check_arrays(group: h5py.Group) -> None:
    """Refuses a group that holds something else than arrays within this file."""
    for name in group:
        array = group.get(name)
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link.")
        if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual:
            raise ValueError(f"{group.name}/{name} is no array.")


def _read(group: h5py.Group, name: str) -> np.ndarray:
    array = group[name]
    values: np.ndarray = array[()]
    if array.attrs.get("dtype") == "bfloat16":
        values = np.asarray(values).view(ml_dtypes.bfloat16)  # HDF5 has no such type.
    if not _is_finite(np.asarray(values)):
        raise ValueError(f"{group.name}/{name} holds a number that is infinite or NaN.")
    return values


def _find(model: Any, path: tuple[str, ...]) -> Any | None:
    """Follows attributes, and names within lists, to the object that Keras saved under them."""
    found = model
    for name in path:
        if isinstance(found, (list, tuple, dict)):
            found = _members(found).get(name)
        elif isinstance(found, _SAVEABLE) and not name.startswith("__"):
            found = getattr(found, name, None)
        else:
            return None
    return found if isinstance(found, _SAVEABLE) and hasattr(found, "load_own_variables") else None


def _members(container: Any) -> dict[str, Any]:
    """Names the members of a list as Keras does: by class, `dense`, `dense_1`, `dense_2`."""
    members: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for member in container.values() if isinstance(container, dict) else container:
        if isinstance(member, _SAVEABLE):
            name = _snake_case(type(member).__name__)
        elif isinstance(member, (list, tuple, dict)):
            name = "container"
        else:
            continue
        count = counts.get(name, 0)
        counts[name] = count + 1
        members[f"{name}_{count}" if count else name] = member
    return members


def _snake_case(name: str) -> str:
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
