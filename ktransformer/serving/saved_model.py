"""SavedModels: of any model written, and of a translator run."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.checksums import check_files, folder_checksums, is_sealed, read_json, seal
from ktransformer.config import BatchingConfig
from ktransformer.errors import InputError, check_unicode, first_line
from ktransformer.files import new_folder
from ktransformer.serving.batching import join_requests, takes_texts
from ktransformer.serving.description import Description, TranslatorDescription, with_article
from ktransformer.serving.engine import Engine
from ktransformer.serving.graph_function import to_tf_functions
from ktransformer.serving.inputs import check_batch, check_inputs_ids, to_tensors
from ktransformer.serving.operations import check_operations
from ktransformer.serving.pattern_paths import without_pattern
from ktransformer.serving.pickling import OpenedExport
from ktransformer.serving.servable import Servable, check_servable
from ktransformer.serving.warmup_requests import read_warmup, warmup_requests, write_warmup
from ktransformer.weights import check_weights

_DESCRIPTION, _GRAPH = "ktransformer.json", "saved_model.pb"


def export_saved_model(
    servable: Servable, path: str | Path, *, batching: BatchingConfig | None = None, **labels: Any
) -> Path:
    """Writes a model as a SavedModel that needs only tensorflow and, for text, tensorflow_text.

    A translator has the signatures `serving_default` (texts -> text, score, truncated), `beam`
    (texts -> n-best text and score, truncated), `score` (source, target -> log_probability,
    tokens, truncated) and `ids` (source -> ids, score, truncated). Those of a `MaskFiller` and an
    `ImageClassifier` stand in their docstrings. Beside those that take texts lie requests with
    which TensorFlow Serving, and `SavedModel.warmup`, run them before the first user does. A
    request may hold no texts; in plain TensorFlow an empty list needs its type,
    `tf.constant([], tf.string)`.

    Args:
        servable: What to write: a `Translator`, a `MaskFiller`, an `ImageClassifier`.
        path: The model's folder; the export goes into its next free number (`1`, `2`, ...), as
            TensorFlow Serving expects. Where it has a bracket, an asterisk, a question mark or a
            backslash, `SavedModel` opens the export, but plain TensorFlow may not: to it the path
            is a pattern.
        batching: How the signatures that take texts join the texts of concurrent requests; None
            for every request by itself.
        **labels: More for the description: a translator's `source_label` and `target_label`.

    Returns:
        The folder that was written.

    Raises:
        TypeError: `servable` is something else, as a model is.
        InputError: `path` is a file or not UTF-8, `batching` is for a model that takes no texts or
            for a translator with a shortlist, a translator's model decodes otherwise than it is
            trained (`check_decoding`), or the model is not built or holds weights that are infinite
            or NaN.
    """
    check_servable(servable)
    check_weights(servable.model)
    path = Path(path)
    check_unicode("A SavedModel's path", str(path.absolute()))  # TensorFlow takes no other.
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; a folder was to be written there.")
    target = path / str(max(_numbers(path), default=0) + 1)
    signatures = servable.saved_model_signatures()
    of_texts = _of_texts(servable, signatures)
    if batching is not None:
        if not of_texts:  # Images that cannot be read would fail those of other callers.
            raise InputError(
                f"Only requests of texts are joined, and {with_article(servable.kind)} takes none."
            )
        if not servable.texts_are_independent:
            raise InputError(
                "Requests are not joined where there is a shortlist: a text's translation would "
                "depend on the texts of other callers."
            )
        joined = {name: join_requests(each, batching) for name, each in of_texts.items()}
        signatures = {**signatures, **joined}
        labels = {**labels, "batching": batching}
    servable.check_before_export()
    description = servable.describe(tuple(signatures), **labels)
    with new_folder(target) as folder:
        write_saved_model(_saved(servable), folder, signatures)
        if servable.tokenizer is not None:
            write_warmup(warmup_requests(of_texts, servable.tokenizer), folder)
        whole = dataclasses.replace(description, files=folder_checksums(folder))
        (folder / _DESCRIPTION).write_bytes(seal(whole.to_json().encode()))
    return target


def _of_texts(servable: Servable, signatures: dict[str, Any]) -> dict[str, Any]:
    """Picks the signatures that take texts; strings are something else without a tokenizer."""
    if servable.tokenizer is None:
        return {}
    return {name: function for name, function in signatures.items() if takes_texts(function)}


def write_saved_model(module: tf.Module, folder: Path, signatures: dict[str, Any]) -> None:
    """Writes a module's SavedModel.

    Raises:
        InputError: The file system refuses: a full disk, no permission.
    """
    try:
        tf.saved_model.save(module, str(folder), signatures=to_tf_functions(signatures))
    except tf.errors.OpError as error:
        raise InputError(f"Cannot write {folder}: {first_line(error)}") from error


def _saved(servable: Servable) -> tf.Module:
    """Makes what is saved: the plain variables, without the Keras objects around them.

    Keras gives each of its variables a second handle when it is saved. Python's loader knows the
    two for one; TensorFlow Serving and the C API restore only the one that no signature reads.
    """
    saved = tf.Module()
    saved.weights = [variable.value for variable in servable.model.variables]
    saved.tokenizer = servable.tokenizer
    return saved


def _numbers(path: Path) -> list[int]:
    """Lists the numbers that are taken in a model's folder, by whatever."""
    names = (entry.name for entry in path.glob("*"))
    return [int(name) for name in names if name.isascii() and name.isdecimal()]


def is_saved_model(path: str | Path) -> bool:
    """Tells whether a path looks like a SavedModel, or like a folder of numbered ones."""
    return _find(Path(path)) is not None


def _find(path: Path) -> Path | None:
    """Returns the folder of the SavedModel itself: of numbered ones the highest."""
    if (path / _GRAPH).is_file():
        return path
    numbered = (path / str(number) for number in sorted(_numbers(path), reverse=True))
    return next((folder for folder in numbered if (folder / _GRAPH).is_file()), None)


class SavedModel(OpenedExport):
    """A SavedModel that `export_saved_model` wrote, opened.

    Attributes:
        kind: What it is, `SavedModel`.
        path: The folder that was taken.
        description: What it says about itself.

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
        self.path = _find(Path(path)) or Path(path)
        if not (self.path / _DESCRIPTION).is_file():
            raise InputError(f"{self.path} is not a SavedModel that ktransformer wrote.")
        content, _ = read_json(self.path / _DESCRIPTION)
        self.description: Any = described.from_json(content, self.path)
        if check:
            self._check(content)
        try:
            with without_pattern(self.path) as path:
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
                    f"{self.path / _DESCRIPTION} is damaged, or was changed after it was written: "
                    "its checksum is another."
                )
            check_files(self.path, self.description.files, (_GRAPH,))
        check_operations(self.path / _GRAPH)

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of what a signature takes."""
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
        if hasattr(self.description, "vocabulary_size"):
            check_inputs_ids(specs, tensors, self.description.vocabulary_size)
        outputs = self._signature(signature)(**tensors)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def warmup(self) -> None:
        """Runs the requests that lie in the export, so that no user's is the first.

        An export that takes no texts, or of a version that wrote none, has no requests.
        """
        for signature, inputs in read_warmup(self.path):
            self.run(signature, **inputs)


class SavedModelEngine(OpenedExport, Engine):
    """Runs a translator's SavedModel that `export_saved_model` wrote.

    Args:
        path: Its folder, or the folder of the numbered ones, of which the highest is taken.
        check: As for `SavedModel`.

    Raises:
        InputError: There is no such export, or it is damaged or of another kind, or has operations
            that no export has.
    """

    kind = SavedModel.kind

    def __init__(self, path: str | Path, *, check: bool = True) -> None:
        self._model = SavedModel(path, TranslatorDescription, check=check)
        super().__init__(self._model.description, self._model.path)

    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        return self._model.run(signature, texts=texts)

    def warmup(self) -> None:
        self._model.warmup()
