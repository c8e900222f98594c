"""Training of a model that is larger than a device's memory: each device keeps a part of it."""

import re
from typing import Any

import keras

from ktransformer.errors import InputError

# By the names of the layers, which all models share; an optimizer's variables have these in theirs.
_DIVIDED = (
    (re.compile(r"(input|query|memory|hidden|gate)_projection[/_]kernel"), (None, "model")),
    (re.compile(r"(input|query|memory|hidden|gate)_projection[/_]bias"), ("model",)),
    (re.compile(r"output_projection[/_]kernel"), ("model", None)),
    (re.compile(r"embedding[/_]embeddings"), ("model", None)),
)


class ShardedDataParallel(keras.distribution.DataParallel):
    """Devices that share the rows of every batch, and the weights of the model as well.

    Of every matrix, and of the optimizer's variables for it, each device keeps an equal part along
    the longest axis that the number of devices divides; other variables are whole on each. XLA
    gathers a matrix where it is needed. The updates are those of `DataParallel`, up to rounding.

    Args:
        devices: Names of the devices, as `keras.distribution.list_devices` gives them.

    Reference: Rajbhandari et al. 2020, "ZeRO" (stage 3); known as fully sharded data parallelism.
    """

    def __init__(self, devices: list[str]) -> None:
        super().__init__(devices=devices, auto_shard_dataset=False)

    def get_variable_layout(self, variable: Any) -> keras.distribution.TensorLayout:
        """Returns along which axis a variable is divided."""
        count, shape = self.device_mesh.devices.size, tuple(variable.shape)
        axes: list[str | None] = [None] * len(shape)
        divided = [(size, axis) for axis, size in enumerate(shape) if size % count == 0]
        if len(shape) > 1 and divided:
            axes[max(divided)[1]] = self.batch_dim_name
        return keras.distribution.TensorLayout(axes, self.device_mesh)


class TensorParallel(keras.distribution.ModelParallel):
    """Devices in a grid: its rows share every batch, and those of a row the weights.

    Of the projections to heads and to a feed-forward network's hidden values each device keeps some
    columns, of those back some rows, of token embeddings some tokens, and the same of the
    optimizer's variables for them. What the number of devices does not divide, and all else, is
    whole on each. XLA exchanges what they need of each other. The updates are those of one device,
    up to rounding.

    Args:
        devices: Names of the devices, as `keras.distribution.list_devices` gives them.
        parts: How many devices share the weights, at least 2; it divides the number of `devices`.

    Raises:
        InputError: `parts` is below 2 or does not divide the number of devices.

    Reference: Shoeybi et al. 2019, "Megatron-LM", section 3.
    """

    def __init__(self, devices: list[str], parts: int) -> None:
        if parts < 2 or len(devices) % parts:
            raise InputError(
                f"The devices that share the weights must be at least 2 and divide {len(devices)} "
                f"devices; got {parts}."
            )
        mesh = keras.distribution.DeviceMesh(
            (len(devices) // parts, parts), ("batch", "model"), devices
        )
        super().__init__(
            layout_map=keras.distribution.LayoutMap(mesh),
            batch_dim_name="batch",
            auto_shard_dataset=False,
        )

    def get_variable_layout(self, variable: Any) -> keras.distribution.TensorLayout:
        """Returns along which axis a variable is divided."""
        shape, parts = tuple(variable.shape), self.device_mesh.shape[1]
        for name, axes in _DIVIDED:
            if name.search(variable.path) and len(shape) == len(axes):
                if shape[axes.index("model")] % parts:
                    break
                return keras.distribution.TensorLayout(axes, self.device_mesh)
        return keras.distribution.TensorLayout([None] * len(shape), self.device_mesh)
