"""Opens anything that ktransformer writes, and published models."""

import zipfile
from pathlib import Path
from typing import Any

from ktransformer import conversion
from ktransformer.conversion.ctranslate2 import is_ctranslate2
from ktransformer.conversion.hub import fetch, is_hub_name
from ktransformer.conversion.onnx_model import is_onnx
from ktransformer.engines.opening import open_model
from ktransformer.errors import InputError
from ktransformer.exporting import is_saved_model
from ktransformer.saving.adapter import load_adapter
from ktransformer.saving.folder import is_model_folder
from ktransformer.saving.keras_file import is_keras_file, load_model
from ktransformer.text import load_tokenizer

_MOST_BYTES = 256 << 20  # Of a tokenizer.


def load(
    path: str | Path, *, check: bool = True, adapter: str | Path | None = None, **settings: Any
) -> Any:
    """Opens anything: a run, a published model, an export, a tokenizer, an adapter, a model's file.

    Args:
        path: The folder or file; or `hf://OWNER/NAME` for a published model on a hub.
        check: Whether what carries checksums is compared with them, and a SavedModel's operations
            with those that an export has. A SavedModel is a program: pass False for your own alone.
        adapter: Of a folder of a trained model: a file of `save_adapter`, to merge into the
            weights; None for none.
        **settings: Of a folder of a trained model: settings of its kind, such as `beam_size`; None
            for the stored one.

    Returns:
        By what it is: a `Task`, such as a `Translator`, for a folder of a trained or published
        model; what `open_model` returns for an export; a tokenizer; a Keras model; an `Adapter`.

    Raises:
        InputError: There is no such file or folder, it is damaged or none of these, an export is
            given settings or an adapter, or a hub cannot be reached.

    Example:
        ```python
        ktransformer.load("runs/en-de", beam_size=1).translate_texts(["A dog runs."])["text"]
        ktransformer.load("en-de.tflite").run("serving_default", texts=[b"A dog runs."])
        ```
    """
    if is_hub_name(path):
        path = fetch(str(path))
    path = Path(path)
    given = {"adapter": adapter, **settings}
    opened = _open_export(path, check, given)
    if opened is not None:
        return opened
    if not path.is_file():
        return conversion.load(path, check=check, adapter=adapter, **settings)
    _check_nothing_given(path, given)
    if is_keras_file(path):
        return load_model(path)
    if zipfile.is_zipfile(path):
        return load_adapter(path)
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} is nothing that ktransformer writes.")
    return load_tokenizer(path)


def _open_export(path: Path, check: bool, given: dict[str, Any]) -> Any:
    """Opens an export; returns None for what is none."""
    if path.is_file():
        with path.open("rb") as file:
            is_export = file.read(8)[4:] == b"TFL3"
    else:
        kinds = is_ctranslate2, is_onnx, is_saved_model
        is_export = not is_model_folder(path) and any(each(path) for each in kinds)
    if not is_export:
        return None
    _check_nothing_given(path, given)
    return open_model(path, check=check)


def _check_nothing_given(path: Path, given: dict[str, Any]) -> None:
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise InputError(
            f"{path} is fixed to its settings; {', '.join(names)} goes with the folder of a model."
        )
