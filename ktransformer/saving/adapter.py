"""A LoRA adapter in a file of its own, beside the run that it adapts: several to one base."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.files import new_file
from ktransformer.models.lora import LoraOptions, merge_lora
from ktransformer.saving.array_file import read_arrays, write_arrays
from ktransformer.saving.weights import digest_weights

FORMAT_VERSION = 1
_KIND = "a LoRA adapter"


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What a training with `lora_rank` learned.

    Attributes:
        base: The SHA-256 of the weights of the model that it belongs to; see `digest_weights`.
        options: Rank, scale and places.
        matrices: A `[D, r]` and B `[r, D']` of each projection, one after the other.
    """

    base: str
    options: LoraOptions
    matrices: list[np.ndarray]


def save_adapter(adapter: Adapter, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes an adapter to a file of NumPy arrays, whole or not at all.

    Args:
        adapter: The adapter, such as `run.adapter` of a run that `train` returned.
        path: The file.
        overwrite: Whether a file that is there may be replaced.

    Raises:
        InputError: See `ktransformer.files.check_new_file`.

    Example:
        ```python
        run = train(config.replace({"lora_rank": 8}), text, checkpoints="c", start=FromRun(base))
        save_adapter(run.adapter, "sport.npz")
        translator = ktransformer.load("runs/base", adapter="sport.npz")
        ```
    """
    head = {
        "format_version": FORMAT_VERSION,
        "kind": _KIND,
        "base": adapter.base,
        **adapter.options._asdict(),
    }
    arrays = [np.frombuffer(json.dumps(head).encode(), "uint8"), *adapter.matrices]
    with new_file(path, overwrite=overwrite) as temporary:
        write_arrays(temporary, arrays)


def load_adapter(path: str | Path) -> Adapter:
    """Reads a file of `save_adapter`.

    Raises:
        InputError: It is missing, damaged, something else, or of a newer version.
    """
    path = Path(path)
    head, *matrices = read_arrays(path, _KIND)
    damaged = InputError(f"{path} is not {_KIND}: it is damaged or something else.")
    try:
        fields = json.loads(head.tobytes())
        version, base = fields["format_version"], fields["base"]
        if fields["kind"] != _KIND or type(version) is not int:
            raise damaged
        if version > FORMAT_VERSION:
            raise InputError(f"{path} is of a newer ktransformer: upgrade it to use the adapter.")
        options = _read_options(fields)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged from error
    finite = all(each.dtype == np.float32 and np.isfinite(each).all() for each in matrices)
    if not finite or len(matrices) % 2 or not isinstance(base, str):
        raise damaged
    return Adapter(base, options, matrices)


def _read_options(fields: dict[str, Any]) -> LoraOptions:
    rank, alpha = fields["rank"], fields["alpha"]
    names = fields["layers"], fields["frozen"]
    if type(rank) is not int or rank < 1 or not math.isfinite(alpha):
        raise ValueError
    if not all(isinstance(part, list) for part in names):
        raise ValueError
    if not all(isinstance(name, str) for part in names for name in part):
        raise ValueError
    return LoraOptions(rank, float(alpha), *map(tuple, names))


def merge_adapter(model: keras.Model, path: str | Path) -> None:
    """Changes a model's kernels as an adapter's file says, in place.

    Args:
        model: The model, with the weights that the adapter was trained on.
        path: The file of the adapter.

    Raises:
        InputError: See `load_adapter`; or the model has other weights.
    """
    adapter = load_adapter(path)
    found = digest_weights(model)
    if adapter.base != found:
        raise InputError(
            f"{path} is an adapter of other weights (SHA-256 {adapter.base[:16]}...) than this "
            f"model's ({found[:16]}...): load it on the run that its training started from."
        )
    try:
        merge_lora(model, adapter.options, adapter.matrices)
    except ValueError as error:
        raise InputError(f"{path} does not fit the model: {error}") from error
