"""The folder of a trained model of any kind: its description, and the files that go with it.

A folder holds `model.keras`, the files of its kind (a tokenizer, the names of classes), and
`model.json`, which describes it: the format's version, the version of ktransformer, the kind, the
configuration, the metrics of the training, and the SHA-256 of every other file and of itself.

Older formats are read, too: a translator's `run.json` (versions 1 and 2, the first without
checksums), a `model.json` of version 1 (without configuration and metrics), and folders of other
models without a description. The versions of all of them are counted together.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from ktransformer._version import __version__
from ktransformer.errors import InputError
from ktransformer.files.checksums import (
    check_files,
    description_text,
    file_sha256,
    is_sealed,
    read_json,
    seal,
)
from ktransformer.saving.keras_file import load_model

FORMAT_VERSION = 3
DESCRIPTION, MODEL = "model.json", "model.keras"
OLD_DESCRIPTION = "run.json"
_TYPES = {"ktransformer": str, "kind": str, "config": dict, "history": dict, "files": dict}
_FIELDS = {  # The fields of a description, by its name and its version.
    (DESCRIPTION, 3): ("ktransformer", "kind", "config", "history", "files"),
    (DESCRIPTION, 1): ("ktransformer", "kind", "files"),
    (OLD_DESCRIPTION, 2): ("ktransformer", "config", "history", "files"),
    (OLD_DESCRIPTION, 1): ("ktransformer", "config", "history"),
}
_OLD_KIND = "translator"  # Of every `run.json`.


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """An existing folder of a model, with its description.

    Attributes:
        path: The folder.
        kind: The kind of model; None for an old folder without a description.
        config: The configuration of the kind; `{}` for a folder that stores none.
        history: The metrics of each epoch, `{"loss": [...], ...}`; `{}` where they are unknown.
        checksums: The SHA-256 of each file; None for an old folder without them.
        version: The version of ktransformer that wrote it; None for a folder without description.
    """

    path: Path
    kind: str | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    checksums: dict[str, str] | None = None
    version: str | None = None

    def check_files(
        self, names: Iterable[str], optional: Iterable[str] = (), *, check: bool = True
    ) -> None:
        """Checks that the model and its files are there.

        Args:
            names: The files of the kind, beside the model.
            optional: Further files, each of which must be there if the description has it.
            check: Whether their checksums are compared, too.

        Raises:
            InputError: A file is missing, or another one than was written.
        """
        described = self.checksums or {}
        names = (MODEL, *names, *(name for name in optional if name in described))
        for name in names:
            if not (self.path / name).is_file():
                raise InputError(
                    f"{self.path} is not a whole folder of a model: {name} is missing."
                )
        if check and self.checksums is not None:
            check_files(self.path, self.checksums, names)

    def load_model(self, check_config: Callable[[dict[str, Any]], None]) -> keras.Model:
        """Reads the model; see `ktransformer.saving.keras_file.load_model`."""
        return load_model(self.path / MODEL, check_config)


def is_model_folder(path: str | Path) -> bool:
    """Tells whether a path looks like the folder of a trained model, of any version."""
    names = (DESCRIPTION, OLD_DESCRIPTION, MODEL)
    return any((Path(path) / name).is_file() for name in names)


def write_description(
    folder: Path,
    kind: str,
    files: Sequence[str],
    *,
    config: Mapping[str, Any],
    history: Mapping[str, Sequence[float]],
) -> None:
    """Writes the description of a folder in which everything else lies already.

    Args:
        folder: The folder.
        kind: The kind of model.
        files: The files of the kind, beside the model.
        config: The configuration of the kind, as JSON.
        history: The metrics of each epoch.
    """
    fields = {
        "format_version": FORMAT_VERSION,
        "ktransformer": __version__,
        "kind": kind,
        "config": config,
        "history": history,
        "files": {name: file_sha256(folder / name) for name in (MODEL, *files)},
    }
    (folder / DESCRIPTION).write_bytes(seal(description_text(fields).encode()))


def open_folder(path: str | Path, *, check: bool = True) -> ModelFolder:
    """Reads the description of a folder; its other files are not read yet.

    Args:
        path: The folder.
        check: Whether the description is compared with its own checksum.

    Raises:
        InputError: It is no folder of a model, its description is damaged, or it was written by a
            newer version.
    """
    folder = Path(path)
    if not folder.is_dir():
        reason = "it is a file" if folder.exists() else "there is no such folder"
        raise InputError(f"{folder} is not the folder of a trained model: {reason}.")
    for name in (DESCRIPTION, OLD_DESCRIPTION):
        if (folder / name).is_file():
            return _read(folder, name, check=check)
    if not (folder / MODEL).is_file():
        raise InputError(f"{folder} is not the folder of a trained model: {MODEL} is missing.")
    return ModelFolder(folder)


def _read(folder: Path, name: str, *, check: bool) -> ModelFolder:
    path = folder / name
    content, fields = read_json(path)
    version = fields.get("format_version") if isinstance(fields, dict) else None
    if type(version) is not int or version < 1:
        raise InputError(f"{path} is damaged: it does not describe a model.")
    if (name, version) not in _FIELDS:
        raise InputError(
            f"{folder} was written by ktransformer {fields.get('ktransformer')}, in the format "
            f"{version}, which this version ({__version__}) does not read: upgrade ktransformer."
        )
    names = _FIELDS[name, version]
    wrong = [each for each in names if type(fields.get(each)) is not _TYPES[each]]
    if wrong:
        raise InputError(f"{path} is damaged: it lacks {', '.join(wrong)}.")
    history = fields["history"] if "history" in names else {}
    if not all(_are_numbers(values) for values in history.values()):
        raise InputError(f"{path} is damaged: its history does not hold lists of numbers.")
    if check and "files" in names and not is_sealed(content):
        raise InputError(
            f"{path} is damaged, or was changed after it was written: its checksum is another."
        )
    return ModelFolder(
        folder,
        kind=fields["kind"] if "kind" in names else _OLD_KIND,
        config=fields["config"] if "config" in names else {},
        history=history,
        checksums=fields["files"] if "files" in names else None,
        version=fields["ktransformer"],
    )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        value is None or isinstance(value, (int, float)) for value in values
    )
