"""Folders of trained models, whatever their kind: what `export` and `verify` open."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ktransformer._version import __version__
from ktransformer.config import DecodingConfig
from ktransformer.errors import InputError
from ktransformer.files import check_new_file
from ktransformer.files.checksums import (
    check_files,
    description_text,
    file_sha256,
    is_sealed,
    read_json,
    seal,
)
from ktransformer.models import MaskedLanguageModel, VisionTransformer
from ktransformer.saving.keras_file import load_model
from ktransformer.saving.run import is_run, load_run
from ktransformer.saving.weights import check_weights
from ktransformer.tasks.description import with_article
from ktransformer.tasks.image_classifier import ImageClassifier
from ktransformer.tasks.mask_filler import MaskFiller
from ktransformer.tasks.servable import Servable
from ktransformer.tasks.translator import Translator
from ktransformer.text import PAD_ID, Tokenizer

FORMAT_VERSION = 1
_DESCRIPTION, _MODEL = "model.json", "model.keras"
_TOKENIZER, _CLASSES = "tokenizer.model", "classes.json"
# What `save_servable` writes, for a `FolderKind` of a recipe that writes more.
SERVABLE_FILES = (r"model\.keras", r"model\.json", r"tokenizer\.model", r"classes\.json")


def save_servable(
    servable: MaskFiller | ImageClassifier, folder: str | Path, *, overwrite: bool = False
) -> None:
    """Writes a model, with its tokenizer or the names of its classes, into a folder.

    Args:
        servable: What to write. A translator's folder is a run: see `save_run`.
            A filler's `top_k` is a setting of its export and not kept.
        folder: A folder that is there; `ktransformer.files.new_folder` makes one that appears
            whole or not at all.
        overwrite: Whether files of a model that are there may be replaced.

    Raises:
        InputError: There is one and `overwrite` is False, or the model is not built, or holds
            weights that are infinite or NaN.
    """
    check_weights(servable.model)
    folder = Path(folder)
    for name in (_DESCRIPTION, _MODEL, _TOKENIZER, _CLASSES):
        check_new_file(folder / name, overwrite=overwrite)
    servable.model.save(folder / _MODEL)
    if isinstance(servable, MaskFiller):
        beside = folder / _TOKENIZER
        servable.tokenizer.save(beside)
    else:
        beside = folder / _CLASSES
        text = json.dumps(servable.classes, indent=2, ensure_ascii=False)
        beside.write_text(text + "\n", encoding="utf-8")
    description = {
        "format_version": FORMAT_VERSION,
        "ktransformer": __version__,
        "kind": servable.kind,
        "files": {path.name: file_sha256(path) for path in (folder / _MODEL, beside)},
    }
    (folder / _DESCRIPTION).write_bytes(seal(description_text(description).encode()))


def load_servable(path: str | Path, *, check: bool = True) -> Servable:
    """Reads the folder of a run or what `save_servable` wrote.

    Args:
        path: The folder.
        check: Whether the files are compared with the checksums that were written with them.

    Raises:
        InputError: The folder or one of its files is missing, damaged or another model's.
    """
    folder = Path(path)
    if is_run(folder):
        return load_translator(folder, check=check)
    if not folder.is_dir():
        raise InputError(f"{folder} is not the folder of a trained model: there is no such folder.")
    if not (folder / _MODEL).is_file():
        raise InputError(f"{folder} is not the folder of a trained model: {_MODEL} is missing.")
    kind = _check_description(folder, check=check)
    servable = _load(folder)
    if kind not in (None, servable.kind):
        raise InputError(f"{folder} holds {with_article(servable.kind)}, not {with_article(kind)}.")
    return servable


def load_translator(path: str | Path, *, check: bool = True, **decoding: Any) -> Translator:
    """Opens a run's folder as a `Translator`; what is not None replaces its decoding settings."""
    run = load_run(path, check=check)
    chosen: DecodingConfig = dataclasses.replace(
        run.config.decoding,
        **{name: value for name, value in decoding.items() if value is not None},
    )
    return Translator(run.model, run.tokenizer, chosen)


def _load(folder: Path) -> Servable:
    model = load_model(folder / _MODEL, lambda config: _check_padding(config, folder / _MODEL))
    if isinstance(model, MaskedLanguageModel):
        return MaskFiller(model, Tokenizer.load(_beside(folder, _TOKENIZER)))
    if isinstance(model, VisionTransformer):
        return ImageClassifier(model, _read_classes(_beside(folder, _CLASSES)))
    raise InputError(
        f"{folder / _MODEL} is neither a MaskedLanguageModel nor a VisionTransformer, but a "
        f"{type(model).__name__}."
    )


def _check_padding(config: dict[str, Any], path: Path) -> None:
    if config.get("pad_id", PAD_ID) != PAD_ID:
        raise InputError(
            f"{path} has pad_id={config['pad_id']!r}, but every tokenizer has {PAD_ID}."
        )


def _check_description(folder: Path, *, check: bool) -> Any:
    """Checks what a folder says about itself; returns the kind of its model.

    None for a folder of a version that wrote no description.
    """
    path = folder / _DESCRIPTION
    if not path.is_file():
        return None
    content, fields = read_json(path)
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise InputError(f"{path} is damaged: it does not describe a model.")
    if fields.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{folder} was written by ktransformer {fields.get('ktransformer')}, in another format "
            f"than this version ({__version__}) reads: upgrade ktransformer, or train it again."
        )
    if check:
        if not is_sealed(content):
            raise InputError(
                f"{path} is damaged, or was changed after it was written: its checksum is another."
            )
        check_files(folder, fields.get("files"), (_MODEL,))
    return fields["kind"]


def _beside(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise InputError(f"{folder} is not a whole folder of a model: {name} is missing.")
    return folder / name


def _read_classes(path: Path) -> list[str]:
    _, classes = read_json(path)
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{path} is damaged: it must be a list of names.")
    return classes
