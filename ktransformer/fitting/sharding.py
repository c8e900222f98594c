"""Training of a model that is larger than a device's memory: each device keeps a part of it."""

from typing import Any

import keras


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
