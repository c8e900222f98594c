"""Reads `.keras` files that anyone may have written: sizes are checked before a model is built."""

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from ktransformer.errors import InputError, first_line
from ktransformer.files.checksums import parse_json
from ktransformer.models import BlockModel
from ktransformer.saving.weights import WeightsFile

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {"metadata.json", _CONFIG, _WEIGHTS}
_MAX_CONFIG = 1 << 22  # Bytes: 4 MiB.
_MAX_EXPANSION = 10  # Keras compresses nothing.
_MAX_POSITIONS = 1 << 20  # Sinusoids are computed, so no weight bounds them.
_MAX_SINUSOIDS = 1 << 27
# A file may have so many times fewer weights than are counted: quantised ones are packed.
_SLACK = 4
# A subclass may share weights between its layers.
_SLACK_OF_SUBCLASS, _LAYERS_OF_SUBCLASS = 1000, 1000
_OURS = "ktransformer>"  # How Keras registers the models of this package.
_SIZES = (
    "num_layers",
    "num_decoder_layers",
    "d_model",
    "num_heads",
    "hidden_dim",
    "vocabulary_size",
    "source_vocabulary_size",
    "type_vocabulary_size",
    "max_length",
    "num_classes",
    "patch_size",
    "channels",
)


def load_model(
    path: str | Path, check_config: Callable[[dict[str, Any]], None] = lambda config: None
) -> keras.Model:
    """Reads a `.keras` file, for use and not for further training.

    Nothing in such a file is run as code. Every weight comes from it.

    Args:
        path: The file.
        check_config: Called with the model's configuration before anything is built; raises an
            `InputError` for one that is not wanted.

    Raises:
        InputError: It is missing or damaged, has sizes that its weights do not fill, lacks weights
            or holds some that are infinite or NaN, or holds layers that were not registered.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = _read_config(archive)
            content = _read_member(archive, _WEIGHTS)
            plain = set(archive.namelist()) <= _MEMBERS and b"shared_object_id" not in described
        fields = parse_json(described, f"{path}: {_CONFIG}")
        if not isinstance(fields, dict) or not isinstance(fields.get("config"), dict):
            raise ValueError(f"its {_CONFIG} describes none.")
        weights = WeightsFile(content)
        try:
            check_config(fields["config"])
            _check_sizes(fields, weights, path)
            model = _build(fields) if plain else _load_by_keras(path)
            weights.load_into(model)
        finally:
            weights.close()
    except (InputError, MemoryError):
        raise
    except Exception as error:  # A class of the user's may raise any for a foreign configuration.
        if type(error).__name__ == "ResourceExhaustedError":  # The backend's.
            raise MemoryError(first_line(error)) from error
        raise InputError(f"{path} does not hold a model: {_reason(error)}") from error
    return model


def is_keras_file(path: str | Path) -> bool:
    """Tells whether a file is an archive with a model's configuration.

    Raises:
        InputError: It is a damaged archive.
    """
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return _CONFIG in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InputError(f"{path} is a damaged archive: {_reason(error)}") from error


def describe_model(path: str | Path) -> dict[str, Any]:
    """Reads what a `.keras` file says of its model, without building it.

    Returns:
        `class`, its name; `config`, the model's configuration; `parameters`, the number of weights.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            fields = parse_json(_read_config(archive), f"{path}: {_CONFIG}")
            weights = WeightsFile(_read_member(archive, _WEIGHTS))
        weights.close()
        return {
            "class": str(fields["class_name"]),
            "config": dict(fields["config"]),
            "parameters": weights.size,
        }
    except InputError:
        raise
    except (
        OSError,
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,  # Of HDF5.
    ) as error:
        raise InputError(f"{path} does not hold a model: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    return " ".join(str(error).split())[:500] or type(error).__name__


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Reads a file of the archive, unless it would expand to many times its stored size."""
    if archive.namelist().count(name) != 1:
        raise ValueError(f"it must hold one {name}.")
    member = archive.getinfo(name)
    if member.file_size > _MAX_EXPANSION * member.compress_size + _MAX_CONFIG:
        raise ValueError(
            f"its {name} would have {member.file_size} bytes, of which {member.compress_size} are "
            "stored."
        )
    try:
        return archive.read(member)
    except (zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"its {name} cannot be read: {error}") from error


def _read_config(archive: zipfile.ZipFile) -> bytes:
    if archive.namelist().count(_CONFIG) == 1:
        size = archive.getinfo(_CONFIG).file_size
        if size > _MAX_CONFIG:
            raise ValueError(f"its {_CONFIG} has {size} bytes, more than {_MAX_CONFIG}.")
    return _read_member(archive, _CONFIG)


def _check_sizes(fields: dict[str, Any], weights: WeightsFile, path: str | Path) -> None:
    """Refuses sizes for which the file has far too few weights, before anything is built."""
    ours = str(fields.get("registered_name")).startswith(_OURS)
    config = fields["config"]
    sizes = {}
    for name in _SIZES:
        value = config.get(name)
        if type(value) is int:
            sizes[name] = value
        elif ours and value is not None:
            raise InputError(f"{path} is damaged: {name} is no whole number.")
    layers = sizes.get("num_layers", 0) + sizes.get("num_decoder_layers", 0)
    positions = sizes.get("max_length", 0)
    if (
        layers > weights.num_arrays + (0 if ours else _LAYERS_OF_SUBCLASS)
        or _fewest_weights(config, sizes) > (_SLACK if ours else _SLACK_OF_SUBCLASS) * weights.size
        or positions > _MAX_POSITIONS
        or positions * sizes.get("d_model", 0) > _MAX_SINUSOIDS
    ):
        raise InputError(
            f"{path} is damaged: its {weights.num_arrays} arrays of {weights.size} weights are too "
            f"few for {', '.join(f'{name}={size:.4g}' for name, size in sizes.items())}."
        )


def _fewest_weights(config: dict[str, Any], sizes: dict[str, int]) -> int:
    """Returns the least number of weights of a model of these sizes; an unknown size counts 0."""

    def size(name: str) -> int:
        return sizes.get(name, 0)

    width, hidden = size("d_model"), 2 * size("d_model") * size("hidden_dim")
    # Queries and outputs alone: few heads of keys and values have hardly any weights.
    encoder = size("num_layers") * (2 * width**2 + hidden)
    decoder = size("num_decoder_layers") * (4 * width**2 + hidden)
    tables = ("vocabulary_size", "source_vocabulary_size", "type_vocabulary_size", "num_classes")
    rows = sum(map(size, tables))
    rows += size("max_length") if config.get("positions") == "learned" else 0
    rows += size("patch_size") ** 2 * size("channels")
    image = config.get("image_size")
    if isinstance(image, (list, tuple)) and all(type(side) is int for side in image):
        rows += math.prod(image) // max(size("patch_size") ** 2, 1)  # A position for each patch.
    return encoder + decoder + rows * width


def _build(fields: dict[str, Any]) -> keras.Model:
    """Makes the model that a configuration describes, built, with fresh weights.

    Keras would go on with an unbuilt model where building fails, whatever the reason.
    """
    record = fields.get("build_config") or {}
    model = keras.saving.deserialize_keras_object(
        {**fields, "build_config": None, "compile_config": None}, safe_mode=True
    )
    if not isinstance(model, keras.Model):
        raise ValueError(f"it holds a {type(model).__name__}, which is no model.")
    if model.built:
        return model
    own = type(model).build_from_config is not keras.Model.build_from_config
    if own or not isinstance(model, BlockModel):
        model.build_from_config(record)
    elif "input_shape" in record:
        model.build(record["input_shape"])
    else:  # The weights of ours do not depend on the inputs: a file needs no record of them.
        model.build(**(record.get("shapes_dict") or {}))
    model.built = True
    return model


def _load_by_keras(path: str | Path) -> keras.Model:
    """Loads a model with files of its own, such as a vocabulary's, or parts in two places."""
    return keras.saving.load_model(path, compile=False)
