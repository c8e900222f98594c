"""The arrays of a training in several processes: each has rows of a batch and parts of weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from ktransformer.fitting.processes import process_count


def own_rows(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the rows of a batch that this process feeds to its devices.

    Processes whose devices divide the work on a row feed the same rows.
    """
    distribution = keras.distribution.distribution()
    if process_count() == 1 or distribution is None:
        return batch

    def take(array: np.ndarray) -> np.ndarray:
        layout = distribution.get_data_layout(array.shape).backend_layout
        indices = layout.addressable_devices_indices_map(array.shape).values()
        rows = [index[0].indices(len(array)) for index in indices]
        return array[min(start for start, _, _ in rows) : max(end for _, end, _ in rows)]

    own: tuple[Any, ...] = keras.tree.map_structure(take, batch)
    return own


def whole_value(variable: Any) -> np.ndarray:
    """Returns the value of a variable, of which each process may have a part.

    All processes must call it for the same variables in the same order.
    """
    if process_count() == 1 or variable.value.is_fully_replicated:
        value: np.ndarray = keras.ops.convert_to_numpy(variable)
        return value
    from jax.experimental import multihost_utils

    gathered: np.ndarray = multihost_utils.process_allgather(variable.value, tiled=True)
    return gathered


@contextlib.contextmanager
def in_own_memory() -> Iterator[None]:
    """Creates variables whole in the main memory of each process, if there are several.

    The first process can then write them alone, and a device need not have room for all of them.
    """
    if process_count() == 1:
        yield
        return
    import jax

    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            yield
    finally:
        keras.distribution.set_distribution(distribution)
