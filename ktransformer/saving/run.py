"""A run: one folder with a trained model's configuration, tokenizer and weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransformer._version import __version__
from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_folder, new_folder
from ktransformer.files.checksums import (
    check_files,
    description_text,
    folder_checksums,
    is_sealed,
    read_json,
    seal,
)
from ktransformer.models import Transformer
from ktransformer.saving.keras_file import load_model as load_model
from ktransformer.saving.weights import check_weights
from ktransformer.text import PAD_ID

if TYPE_CHECKING:
    from ktransformer.text import Tokenizer

FORMAT_VERSION = 2  # 1 has no checksums.
_DESCRIPTION, _TOKENIZER, _MODEL = "run.json", "tokenizer.model", "model.keras"
# What changes a trained model's translations, of what stands in run.json and model.keras alike.
_FOR_TRAINING = {"dropout", "attention_dropout", "hidden_dropout", "remat"}
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
        InputError: See `check_run_path`; or the model is not built, holds weights that are
            infinite or NaN, or is another one than the configuration describes.
    """
    check_weights(run.model)
    check = _config_check(run.config, run.tokenizer.vocabulary_size, "The model")
    check(run.model.get_config())
    check_run_path(path, overwrite=overwrite)
    with new_folder(path, overwrite=overwrite, kind=_KIND) as folder:
        run.tokenizer.save(folder / _TOKENIZER)
        run.model.save(folder / _MODEL)
        description = {
            "format_version": FORMAT_VERSION,
            "ktransformer": __version__,
            "vocabulary_size": run.tokenizer.vocabulary_size,
            "config": run.config.to_dict(),
            "history": run.history,
            "files": folder_checksums(folder),
        }
        (folder / _DESCRIPTION).write_bytes(seal(description_text(description).encode()))


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


def load_run(path: str | Path, *, check: bool = True) -> Run:
    """Reads a run's folder.

    Args:
        path: The folder.
        check: Whether the files are compared with the checksums in `run.json`.

    Raises:
        InputError: The folder or one of its files is missing, damaged or another run's, or it was
            written by a newer version.
    """
    from ktransformer.text import Tokenizer

    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a run folder: there is no such folder.")
    for name in (_DESCRIPTION, _TOKENIZER, _MODEL):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a whole run folder: {name} is missing.")
    description = _read_description(folder / _DESCRIPTION, check=check)
    if check and "files" in description:
        check_files(folder, description["files"], (_TOKENIZER, _MODEL))
    config = Config.from_dict(description["config"])
    tokenizer = Tokenizer.load(folder / _TOKENIZER)
    if tokenizer.vocabulary_size != description["vocabulary_size"]:
        raise InputError(
            f"{folder / _TOKENIZER} has {tokenizer.vocabulary_size} pieces, but the run was "
            f"trained with {description['vocabulary_size']}."
        )
    check_config = _config_check(config, tokenizer.vocabulary_size, str(folder / _MODEL))
    model = load_model(folder / _MODEL, check_config)
    if not isinstance(model, Transformer):
        raise InputError(f"{folder / _MODEL} is no Transformer but a {type(model).__name__}.")
    return Run(config, tokenizer, model, description["history"])


def _config_check(
    config: Config, vocabulary_size: int, origin: str
) -> Callable[[dict[str, Any]], None]:
    """Makes the check that a model is the one that its run describes.

    A subclass may leave out settings that it does not have.
    """
    layers = config.model.num_decoder_layers or config.model.num_layers
    settings = dataclasses.asdict(config.model)
    expected = {name: settings[name] for name in settings.keys() - _FOR_TRAINING}
    expected |= {"num_decoder_layers": layers, "vocabulary_size": vocabulary_size}
    expected |= {"pad_id": PAD_ID}

    def check(found: dict[str, Any]) -> None:
        for name, value in sorted(expected.items()):
            other = _plain(found.get(name, value))
            if other != value or isinstance(other, bool) != isinstance(value, bool):
                raise InputError(
                    f"{origin} has {name}={other!r}, but its run {name}={value!r}: they do not "
                    "belong together."
                )

    return check


def _plain(value: Any) -> Any:
    """Returns a setting as `run.json` has it; of a dtype policy, quantised or not, its name."""
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"].get("name", value)
    name = getattr(value, "name", value)
    return name.rpartition("_from_")[2] if isinstance(name, str) else name


def _read_description(path: Path, *, check: bool) -> dict[str, Any]:
    content, description = read_json(path)
    kinds = {"ktransformer": str, "vocabulary_size": int, "config": dict, "history": dict}
    version = description.get("format_version") if isinstance(description, dict) else None
    if type(version) is not int or version < 1:
        raise InputError(f"{path} is damaged: it does not describe a run.")
    if version > FORMAT_VERSION:
        raise InputError(
            f"{path.parent} was written by ktransformer {description.get('ktransformer')}, which "
            f"is newer than this one ({__version__}): upgrade ktransformer to read it."
        )
    if version > 1:
        kinds["files"] = dict
    wrong = [name for name, kind in kinds.items() if type(description.get(name)) is not kind]
    if wrong:
        raise InputError(f"{path} is damaged: it lacks {', '.join(sorted(wrong))}.")
    if not all(
        isinstance(values, list)
        and all(value is None or isinstance(value, (int, float)) for value in values)
        for values in description["history"].values()
    ):
        raise InputError(f"{path} is damaged: its history does not hold lists of numbers.")
    if check and version > 1 and not is_sealed(content):
        raise InputError(
            f"{path} is damaged, or was changed after it was written: its checksum is another."
        )
    return description
