"""A run: one folder with a trained model's configuration, tokenizer and weights."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransformer._version import __version__
from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_folder, new_folder
from ktransformer.models import Transformer
from ktransformer.text import PAD_ID

if TYPE_CHECKING:
    from ktransformer.text import Tokenizer

FORMAT_VERSION = 1
_DESCRIPTION, _TOKENIZER, _MODEL = "run.json", "tokenizer.model", "model.keras"
_KIND = FolderKind(
    "a run folder", (r"run\.json", r"tokenizer\.model", r"model\.keras"), required=(_DESCRIPTION,)
)


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained model with all that is needed to use it.

    Attributes:
        config: What it was trained with.
        tokenizer: The tokenizer of both sides.
        model: The model with its weights.
        history: The metrics of each epoch, `{"loss": [...], "val_loss": [...], ...}`.
    """

    config: Config
    tokenizer: "Tokenizer"
    model: Transformer
    history: dict[str, list[float]]


def make_model(config: Config, vocabulary_size: int) -> Transformer:
    """Creates the model of a configuration, built, with fresh weights.

    Raises:
        InputError: The sizes do not go together.
    """
    try:
        model = Transformer(
            vocabulary_size, pad_id=PAD_ID, name="transformer", **dataclasses.asdict(config.model)
        )
        model.build()
    except ValueError as error:
        raise InputError(str(error)) from error
    return model


def save_run(run: Run, path: str | Path, *, overwrite: bool = False) -> None:
    """Writes a run's folder, whole or not at all.

    Args:
        run: What to write.
        path: The folder to make.
        overwrite: Whether a folder that is already there may be replaced.

    Raises:
        InputError: See `check_run_path`.
    """
    description = {
        "format_version": FORMAT_VERSION,
        "ktransformer": __version__,
        "vocabulary_size": run.tokenizer.vocabulary_size,
        "config": run.config.to_dict(),
        "history": run.history,
    }
    check_run_path(path, overwrite=overwrite)
    with new_folder(path, overwrite=overwrite, kind=_KIND) as folder:
        text = json.dumps(description, indent=2, ensure_ascii=False)
        (folder / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        run.tokenizer.save(folder / _TOKENIZER)
        run.model.save(folder / _MODEL)


def check_run_path(path: str | Path, *, overwrite: bool = False) -> None:
    """Checks that a run may be written at `path`, before any work is done for it.

    Raises:
        InputError: `path` is a file, or a folder that is there while `overwrite` is False, or a
            folder that holds other files than a run's.
    """
    check_new_folder(path, overwrite=overwrite, kind=_KIND)


def is_run(path: str | Path) -> bool:
    """Tells whether a path looks like a run's folder."""
    return (Path(path) / _DESCRIPTION).is_file()


def load_run(path: str | Path) -> Run:
    """Reads a run's folder.

    Raises:
        InputError: The folder or one of its files is missing or damaged, or it was written by a
            newer version.
    """
    from ktransformer.text import Tokenizer

    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run folder: there is no such folder.")
    for name in (_DESCRIPTION, _TOKENIZER, _MODEL):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a whole run folder: {name} is missing.")
    description = _read_description(folder / _DESCRIPTION)
    config = Config.from_dict(description["config"])
    tokenizer = Tokenizer.load(folder / _TOKENIZER)
    if tokenizer.vocabulary_size != description["vocabulary_size"]:
        raise InputError(
            f"{folder / _TOKENIZER} has {tokenizer.vocabulary_size} pieces, but the run was "
            f"trained with {description['vocabulary_size']}."
        )
    model = load_model(folder / _MODEL)
    if not isinstance(model, Transformer):
        raise InputError(f"{folder / _MODEL} is no Transformer but a {type(model).__name__}.")
    return Run(config, tokenizer, model, description["history"])


def load_model(path: str | Path) -> keras.Model:
    """Reads a `.keras` file, for use and not for further training.

    Raises:
        InputError: It is missing or damaged, or holds layers that were not registered.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} does not hold a model: {reason}") from error


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        version = description["format_version"]
        if version > FORMAT_VERSION:
            raise InputError(
                f"{path.parent} was written by ktransformer {description['ktransformer']}, which "
                f"is newer than this one ({__version__}): upgrade ktransformer to read it."
            )
        missing = {"config", "history", "vocabulary_size"} - description.keys()
        if not missing:
            description["config"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: it does not describe a run.") from error
    if missing:
        raise InputError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}.")
    return description
