"""Opens a SavedModel of any task."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.exporting.saved_model.operations import check_operations
from ktransformer.exporting.saved_model.warmup_requests import read_warmup
from ktransformer.files.checksums import check_files, is_sealed, read_json
from ktransformer.tasks import Description
from ktransformer.tasks.inputs import check_batch, check_inputs_ids, to_tensors

DESCRIPTION, GRAPH = "ktransformer.json", "saved_model.pb"
_PATTERN = set("*?[]\\")


def numbers_taken(path: Path) -> list[int]:
    """Lists the numbers that are taken in a model's folder, by files or folders."""
    names = (entry.name for entry in path.glob("*"))
    return [int(name) for name in names if name.isascii() and name.isdecimal()]


def is_saved_model(path: str | Path) -> bool:
    """Tells whether a path looks like a SavedModel, or like a folder of numbered ones."""
    return saved_model_folder(Path(path)) is not None


def saved_model_folder(path: Path) -> Path | None:
    """Returns the folder of the SavedModel itself: of numbered ones the highest; None for none."""
    if (path / GRAPH).is_file():
        return path
    numbered = (path / str(number) for number in sorted(numbers_taken(path), reverse=True))
    return next((folder for folder in numbered if (folder / GRAPH).is_file()), None)


class SavedModel(OpenedExport):
    """A SavedModel that `export_saved_model` wrote, opened.

    Attributes:
        kind: Its form, `SavedModel`.
        path: The folder that was taken.
        description: Its description.

    Args:
        path: Its folder, or the folder of the numbered ones, of which the highest is taken.
        described: The class of its description; `Description` for any kind of model.
        check: Whether its files are compared with their checksums, and its operations with those
            that an export has; see `check_operations`. A SavedModel is a program: pass False only
            for one of your own.

    Raises:
        InputError: There is no such export, or it is damaged or of another kind, or has operations
            that no export has.
    """

    kind = "SavedModel"

    def __init__(
        self,
        path: str | Path,
        described: type[Description] = Description,
        *,
        check: bool = True,
    ) -> None:
        self.path = saved_model_folder(Path(path)) or Path(path)
        if not (self.path / DESCRIPTION).is_file():
            raise InputError(f"{self.path} is not a SavedModel that ktransformer wrote.")
        content, _ = read_json(self.path / DESCRIPTION)
        self.description: Any = described.from_json(content, self.path)
        if check:
            self._check(content)
        try:
            with _without_pattern(self.path) as path:
                self._model = tf.saved_model.load(str(path))
            missing = set(self.description.signatures) - set(self._model.signatures)
        except (MemoryError, tf.errors.ResourceExhaustedError):
            raise
        except Exception as error:  # TensorFlow's loader does not expect damage: it raises any.
            reason = " ".join(str(error).split())
            raise InputError(f"{self.path} does not hold a whole SavedModel: {reason}") from error
        if missing:
            raise InputError(f"{self.path} is damaged: it lacks the signatures {sorted(missing)}.")

    def _check(self, content: bytes) -> None:
        """Refuses a damaged or foreign export before TensorFlow reads it."""
        if self.description.has_checksums:
            if not is_sealed(content):
                raise InputError(
                    f"{self.path / DESCRIPTION} is damaged, or was changed after it was written: "
                    "its checksum is another."
                )
            check_files(self.path, self.description.files, (GRAPH,))
        check_operations(self.path / GRAPH)

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's inputs."""
        return sorted(self._signature(signature).structured_input_signature[1])

    def _signature(self, name: str) -> Any:
        known: Any = self._model.signatures
        if name not in known:
            raise InputError(f"{self.path} has no signature {name!r}, only {', '.join(known)}.")
        return known[name]

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature.

        Raises:
            InputError: There is no such signature, or it takes other inputs.
        """
        specs = self._signature(signature).structured_input_signature[1]
        tensors = to_tensors(signature, specs, inputs)
        check_batch(tensors)
        check_inputs_ids(specs, tensors, self.description)
        outputs = self._signature(signature)(**tensors)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def warmup(self) -> None:
        """Runs the requests that lie in the export, so that no user's is the first.

        An export that takes no texts, or of a version that wrote none, has no requests.
        """
        for signature, inputs in read_warmup(self.path):
            self.run(signature, **inputs)


@contextlib.contextmanager
def _without_pattern(path: Path) -> Iterator[Path]:
    """Yields a path of the same folder that TensorFlow takes literally: itself, or a link to it.

    TensorFlow looks for a model's variables by a pattern that begins with the path (2.21): it does
    not find them in `a[1]`, and in `a*` it may find another model's.
    """
    if _PATTERN.isdisjoint(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "model"
        link.symlink_to(path.absolute(), target_is_directory=True)
        yield link
