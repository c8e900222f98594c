"""What a file or folder is: a run, an export, a tokenizer, a checkpoint, or none of these."""

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ktransformer.config import Config
from ktransformer.conversion import PublishedFolder, is_published, registered_families
from ktransformer.conversion.converted_model import DESCRIPTION as EXPORTED
from ktransformer.conversion.ctranslate2 import is_ctranslate2
from ktransformer.conversion.onnx_model import is_onnx
from ktransformer.errors import InputError, printable
from ktransformer.exporting.lite.model_file import check_file, read_metadata
from ktransformer.exporting.saved_model.opened import is_saved_model, saved_model_folder
from ktransformer.files import readable_size, size_on_disk
from ktransformer.files.checksums import check_files, is_sealed, read_json
from ktransformer.fitting.averaging import WEIGHTS
from ktransformer.fitting.state import read_head
from ktransformer.saving.adapter import load_adapter
from ktransformer.saving.array_file import is_array_file, read_arrays
from ktransformer.saving.card import changed_settings, final_scores
from ktransformer.saving.folder import is_model_folder, open_folder
from ktransformer.saving.keras_file import describe_model, is_keras_file
from ktransformer.saving.run import CARD, RUN_KIND
from ktransformer.tasks import Description
from ktransformer.tasks.registry import find_task
from ktransformer.text import load_tokenizer

Facts = dict[str, Any]
_STATE = "training.npz"
_MAX_TOKENIZER = 1 << 28  # Bytes: no larger file is read to find out whether it is one.
_SIZES = (
    *("num_layers", "num_decoder_layers", "d_model", "num_heads", "num_kv_heads", "hidden_dim"),
    *("vocabulary_size", "source_vocabulary_size", "max_length", "num_classes", "image_size"),
    "patch_size",
)
_LIST = (
    "a run or another folder of a trained model, a SavedModel, a .tflite, a CTranslate2, ONNX or "
    "published folder, a .keras file, a tokenizer, an adapter or the state of a training"
)


def inspect(path: str | Path, *, check: bool = True) -> Facts:
    """Describes a file or folder, without building its model.

    Args:
        path: A run or another folder of a trained model, an export, a published folder, a `.keras`
            file, a tokenizer, an adapter, or the state or the folder of a training.
        check: Whether the files are compared with the checksums that were written with them.

    Returns:
        Facts by name, JSON-serialisable: `form` (what it is), `path` and `size` (bytes) always;
        then, as far as they are known, `kind` (of model), `parameters`, `sizes`, `languages`,
        `tokenizer`, `settings` (those of a training that are not the defaults), `decoding`,
        `scores` (of validation text), `epochs`, `signatures`, `written_by` and more.

    Raises:
        InputError: There is no such file or folder, it is damaged, of a newer version, or none of
            these.

    Example:
        ```python
        inspect("runs/en-de")["scores"]["bleu"]
        ```
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    for matches, describe in _FOLDERS if path.is_dir() else _FILES:
        if matches(path):
            found = describe(path, check)
            common = {"path": str(path), "size": size_on_disk(path)}
            return {"form": found.pop("form"), **common, **_without_empty(found)}
    raise InputError(f"{path} is none of what ktransformer opens: {_LIST}.")


def to_text(facts: Mapping[str, Any]) -> str:
    """Formats what `inspect` returned, a fact a line."""
    lines = []
    for name, value in facts.items():
        title = printable(name.replace("_", " "))
        if name == "size":
            value = readable_size(value)
        if isinstance(value, dict):
            lines.append(f"{title}:")
            lines += (f"  {printable(key)}: {_word(each)}" for key, each in value.items())
        else:
            lines.append(f"{title}: {_word(value)}")
    return "\n".join(lines)


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_word, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(value)
    )


def _without_empty(facts: Facts) -> Facts:
    return {name: value for name, value in facts.items() if value not in (None, "", {}, [], ())}


def _describe_run(path: Path, check: bool) -> Facts:
    folder = open_folder(path, check=check)
    names: tuple[str, ...] = ()
    if folder.kind is not None:
        task = find_task(folder.kind, path)
        names = task.FILES
        folder.check_files(task.FILES, task.OPTIONAL_FILES, check=check)
    model = describe_model(path / "model.keras")
    is_run = folder.kind == RUN_KIND and "model" in folder.config
    settings = {} if not is_run else changed_settings(Config.from_dict(folder.config))
    decoding = (folder.config.get("decoding") or {}) if is_run else {}
    return {
        "form": "run" if is_run else "folder of a trained model",
        "kind": folder.kind,
        "written_by": _written_by(folder),
        "model": model["class"],
        "parameters": model["parameters"],
        "sizes": _sizes(model["config"]),
        "languages": _without_empty(
            {name: decoding.get(name) for name in ("tag", "target_language")}
        ),
        "tokenizers": {
            name: _describe_pieces(path / name)
            for name in (*names, "target_tokenizer.model")
            if name.endswith(".model") and (path / name).is_file()
        },
        "epochs": len(folder.history.get("loss", ())),
        "scores": final_scores(folder.history),
        "settings": settings if is_run else folder.config,
        "card": str(path / CARD) if (path / CARD).is_file() else None,
        "checksums": _checked(folder.checksums is not None, check),
    }


def _written_by(folder: Any) -> str | None:
    return None if folder.version is None else f"ktransformer {folder.version}"


def _checked(has_checksums: bool, check: bool) -> str:
    if not has_checksums:
        return "none: of an older version"
    return "as written" if check else "not compared"


def _sizes(config: Mapping[str, Any]) -> Facts:
    return {name: config[name] for name in _SIZES if isinstance(config.get(name), int)}


def _describe_pieces(path: Path) -> str:
    tokenizer = load_tokenizer(path)
    text = f"{tokenizer.kind}, {tokenizer.vocabulary_size:,} pieces"
    if tokenizer.symbols:
        text += f", with the symbols {' '.join(tokenizer.symbols)}"
    return text


def _describe_export(form: str, description: Any, has_checksums: bool, check: bool) -> Facts:
    fields = dataclasses.asdict(description)
    labels = {side: fields.get(f"{side}_label") for side in ("source", "target")}
    known = ("source_label", "target_label", "files", "sha256", "format_version", "ktransformer")
    long = ("characters", "special_ids", "symbols", "kind", "signatures", "decoding", "classes")
    rest = {name: value for name, value in fields.items() if name not in (*known, *long)}
    return {
        "form": form,
        "kind": description.kind,
        "written_by": f"ktransformer {description.ktransformer}",
        "languages": _without_empty(labels),
        "signatures": list(description.signatures),
        **rest,
        "symbols": list(fields.get("symbols", ())),
        "classes": list(fields.get("classes", ())),
        "decoding": _without_empty(fields.get("decoding", {})),
        "checksums": _checked(has_checksums, check),
    }


def _describe_saved_model(path: Path, check: bool) -> Facts:
    folder = saved_model_folder(path) or path
    if not (folder / EXPORTED).is_file():
        raise InputError(f"{folder} is a SavedModel, but not one that ktransformer wrote.")
    return {**_describe_folder("SavedModel", folder, check), "version": folder.name}


def _describe_folder(form: str, folder: Path, check: bool) -> Facts:
    if not (folder / EXPORTED).is_file():
        raise InputError(f"{folder} is of the form {form}, but ktransformer did not write it.")
    content, _ = read_json(folder / EXPORTED)
    description = Description.from_json(content, folder)
    if check and description.has_checksums:
        if not is_sealed(content):
            raise InputError(f"{folder / EXPORTED} is damaged: its checksum is another.")
        check_files(folder, description.files, ())
    return _describe_export(form, description, description.has_checksums, check)


def _describe_lite(path: Path, check: bool) -> Facts:
    description = Description.from_json(read_metadata(path), path)
    if check and description.has_checksums:
        check_file(path)
    return _describe_export(".tflite", description, description.has_checksums, check)


def _describe_published(path: Path, check: bool) -> Facts:
    folder = PublishedFolder(path)
    family = folder.config.get("model_type")
    known = registered_families()
    opens = isinstance(family, str) and family in known
    return {
        "form": "published model",
        "family": family,
        "opens": "yes" if opens else f"no: of the families, {', '.join(known)} do",
        "parameters": folder.tensors.num_parameters,
        "sizes": {
            k: v for k, v in folder.config.items() if type(v) is int and "_token_id" not in k
        },
    }


def _describe_training(path: Path, check: bool) -> Facts:
    facts = _describe_state(path / _STATE, check)
    return {**facts, "form": "folder of a training that is not over"}


def _describe_state(path: Path, check: bool) -> Facts:
    head, *arrays = read_arrays(path, "the whole state of a training")
    state = read_head(head, len(arrays), path)
    config = state["about"].get("config")
    if config is not None and not isinstance(config, dict):
        raise InputError(f"{path} is not the whole state of a training.")
    return {
        "form": "state of a training",
        "goes_on_with": "train --resume",
        "updates": state["update"],
        "epochs": len(state["history"].get("loss", ())),
        "hours": round(state.get("seconds", 0) / 3600, 3),
        "scores": final_scores(state["history"]),
        "settings": changed_settings(Config.from_dict(config)) if config else {},
        "environment": state.get("environment", {}),
    }


def _describe_arrays(path: Path, check: bool) -> Facts:
    """Describes a file of arrays: a state, an adapter or the weights of an epoch."""
    head, *arrays = read_arrays(path, "a file of arrays")
    fields = _read_json_head(head)
    if "update" in fields:
        return _describe_state(path, check)
    if "base" in fields:
        adapter = load_adapter(path)
        return {
            "form": "LoRA adapter",
            "parameters": sum(each.size for each in adapter.matrices),
            "settings": adapter.options._asdict(),
            "of_the_weights": f"SHA-256 {adapter.base}",
        }
    return {"form": WEIGHTS, "parameters": sum(each.size for each in (head, *arrays))}


def _read_json_head(array: Any) -> Facts:
    if array.dtype != "uint8":
        return {}
    try:
        fields = json.loads(array.tobytes())
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _describe_keras(path: Path, check: bool) -> Facts:
    model = describe_model(path)
    return {
        "form": ".keras file",
        "model": model["class"],
        "parameters": model["parameters"],
        "sizes": _sizes(model["config"]),
    }


def _describe_tokenizer(path: Path, check: bool) -> Facts:
    tokenizer = load_tokenizer(path)
    return {
        "form": "tokenizer",
        "kind": tokenizer.kind,
        "pieces": tokenizer.vocabulary_size,
        "special_ids": tokenizer.special_ids._asdict(),
        "symbols": list(tokenizer.symbols),
        "characters": None if tokenizer.characters is None else len(tokenizer.characters),
        "on_litert": tokenizer.lite_obstacle or "yes",
    }


def _is_lite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"


def _is_tokenizer(path: Path) -> bool:
    if not 0 < path.stat().st_size <= _MAX_TOKENIZER:
        return False
    try:
        load_tokenizer(path)
    except InputError:
        return False
    return True


_Describer = tuple[Callable[[Path], bool], Callable[[Path, bool], Facts]]
_FOLDERS: tuple[_Describer, ...] = (
    (is_model_folder, _describe_run),
    (is_ctranslate2, lambda path, check: _describe_folder("CTranslate2 folder", path, check)),
    (is_onnx, lambda path, check: _describe_folder("ONNX folder", path, check)),
    (is_saved_model, _describe_saved_model),
    (is_published, _describe_published),
    (lambda path: (path / _STATE).is_file(), _describe_training),
)
_FILES: tuple[_Describer, ...] = (
    (_is_lite, _describe_lite),
    (is_keras_file, _describe_keras),
    (lambda path: zipfile.is_zipfile(path) and is_array_file(path), _describe_arrays),
    (_is_tokenizer, _describe_tokenizer),
)
