"""Folders of trained models, whatever their kind: what `export` and `verify` open."""

import json
from pathlib import Path

from ktransformer.engines import load_translator
from ktransformer.errors import InputError
from ktransformer.files import check_new_file
from ktransformer.models import MaskedLanguageModel, VisionTransformer
from ktransformer.run import is_run, load_model
from ktransformer.serving import ImageClassifier, MaskFiller, Servable
from ktransformer.text import Tokenizer

_MODEL, _TOKENIZER, _CLASSES = "model.keras", "tokenizer.model", "classes.json"
# What `save_servable` writes, for a `FolderKind` of a recipe that writes more.
SERVABLE_FILES = (r"model\.keras", r"model\.json", r"tokenizer\.model", r"classes\.json")


def save_servable(
    servable: MaskFiller | ImageClassifier, folder: str | Path, *, overwrite: bool = False
) -> None:
    """Writes a model, with its tokenizer or the names of its classes, into a folder.

    Args:
        servable: What to write. A translator's folder is a run: see `ktransformer.run.save_run`.
            A filler's `top_k` is a setting of its export and not kept.
        folder: A folder that is there; `ktransformer.files.new_folder` makes one that appears
            whole or not at all.
        overwrite: Whether files of a model that are there may be replaced.

    Raises:
        InputError: There is one, and `overwrite` is False.
    """
    folder = Path(folder)
    for name in (_MODEL, _TOKENIZER, _CLASSES):
        check_new_file(folder / name, overwrite=overwrite)
    servable.model.save(folder / _MODEL)
    if isinstance(servable, MaskFiller):
        servable.tokenizer.save(folder / _TOKENIZER)
    else:
        text = json.dumps(servable.classes, indent=2, ensure_ascii=False)
        (folder / _CLASSES).write_text(text + "\n", encoding="utf-8")


def load_servable(path: str | Path) -> Servable:
    """Reads the folder of a run or what `save_servable` wrote.

    Raises:
        InputError: The folder or one of its files is missing or damaged.
    """
    folder = Path(path)
    if is_run(folder):
        return load_translator(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not the folder of a trained model: there is no such folder.")
    if not (folder / _MODEL).is_file():
        raise InputError(f"{folder} is not the folder of a trained model: {_MODEL} is missing.")
    model = load_model(folder / _MODEL)
    if isinstance(model, MaskedLanguageModel):
        return MaskFiller(model, Tokenizer.load(_beside(folder, _TOKENIZER)))
    if isinstance(model, VisionTransformer):
        return ImageClassifier(model, _read_classes(_beside(folder, _CLASSES)))
    raise InputError(
        f"{folder / _MODEL} is neither a MaskedLanguageModel nor a VisionTransformer, but a "
        f"{type(model).__name__}."
    )


def _beside(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise InputError(f"{folder} is not a whole folder of a model: {name} is missing.")
    return folder / name


def _read_classes(path: Path) -> list[str]:
    try:
        classes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is damaged: it is not JSON.") from error
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{path} is damaged: it must be a list of names.")
    return classes
