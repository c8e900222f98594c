"""Writes a SavedModel of any task."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from ktransformer.config import BatchingConfig, CompilationConfig
from ktransformer.errors import InputError, check_unicode, did_you_mean, first_line
from ktransformer.exporting.saved_model.batching import join_requests, takes_texts_alone
from ktransformer.exporting.saved_model.export_check import check_written
from ktransformer.exporting.saved_model.opened import DESCRIPTION, GRAPH, numbers_taken
from ktransformer.exporting.saved_model.quantization import QUANTIZATIONS, add_weights
from ktransformer.exporting.saved_model.small_operations import keep_from_onednn
from ktransformer.exporting.saved_model.warmup_requests import (
    Request,
    compiled_requests,
    warmup_requests,
    write_warmup,
)
from ktransformer.files import new_folder
from ktransformer.files.checksums import folder_checksums, seal
from ktransformer.saving.weights import check_weights
from ktransformer.tasks.graph_function import to_tf_functions
from ktransformer.tasks.registry import with_article
from ktransformer.tasks.task import Task, check_task
from ktransformer.text import BaseTokenizer


def export_saved_model(
    task: Task,
    path: str | Path,
    *,
    signatures: Sequence[str] | None = None,
    quantization: str = "none",
    batching: BatchingConfig | None = None,
    compilation: CompilationConfig | None = None,
    **labels: Any,
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
        task: The task: a `Translator`, a `MaskFiller`, an `ImageClassifier`, or one of your own.
        path: The model's folder; the export goes into its next free number (`1`, `2`, ...), as
            TensorFlow Serving expects. Where it has a bracket, an asterisk, a question mark or a
            backslash, `SavedModel` opens the export, but plain TensorFlow may not: to it the path
            is a pattern.
        signatures: Which of the task's `saved_model_signatures` go in, `serving_default` among
            them; None for all but the task's `signatures_on_request`.
        quantization: How weights are stored: `"none"`, `"float16"` or `"int8_weights"`. They are
            computed in float32 in each case, and widened when the export is loaded; see
            `quantization.add_weights`.
        batching: How the signatures that take texts join the texts of concurrent requests; None
            for every request by itself.
        compilation: In which shapes XLA compiles the searches of the task's `COMPILED` signatures,
            some seconds each when the first request of that shape comes; `warmup` sends one of
            each. None for searches without XLA.
        **labels: More for the description: a translator's `source_label` and `target_label`.

    Returns:
        The folder that was written.

    Raises:
        TypeError: `task` is no `Task`, as a model is.
        InputError: `path` is a file or not UTF-8, a signature or quantisation is unknown, the
            quantised export has other scores than the model, `batching` is for a model that takes
            no texts or for a translator with a shortlist, `compilation` is for a task that is no
            translator, for a translator with a shortlist, or for a search with an operation that
            XLA lacks, a translator's model decodes otherwise than it is trained
            (`check_decoding`), or the model is not built or holds weights that are infinite or
            NaN.
    """
    check_task(task)
    check_weights(task.model)
    if quantization not in QUANTIZATIONS:
        raise InputError(
            f"quantization must be one of {', '.join(QUANTIZATIONS)} for a SavedModel; "
            f"got {quantization!r}."
        )
    path = Path(path)
    check_unicode("A SavedModel's path", str(path.absolute()))  # TensorFlow takes no other.
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; a folder was to be written there.")
    if compilation is not None:
        task = task.with_compilation(compilation)
        labels = {**labels, "compilation": task.compilation}
    target = path / str(max(numbers_taken(path), default=0) + 1)
    chosen = _choose(task, signatures)
    of_texts = _of_texts(task, chosen)
    if batching is not None:
        if not of_texts:  # Images that cannot be read would fail those of other callers.
            raise InputError(
                f"Only requests of texts are joined, and {with_article(task.kind)} takes none."
            )
        if not task.texts_are_independent:
            raise InputError(
                "Requests are not joined where a text's outputs depend on the texts of other "
                "callers, as with a shortlist."
            )
        joined = {name: join_requests(each, batching) for name, each in of_texts.items()}
        chosen = {**chosen, **joined}
        labels = {**labels, "batching": batching}
    task.check_before_export()
    description = task.describe(tuple(chosen), quantization=quantization, **labels)
    with new_folder(target) as folder:
        write_saved_model(_saved(task, quantization), folder, chosen)
        if compilation is None:
            keep_from_onednn(folder, GRAPH)
        if task.tokenizer is not None:
            write_warmup(_requests(task, tuple(chosen), task.tokenizer), folder)
        whole = dataclasses.replace(description, files=folder_checksums(folder))
        (folder / DESCRIPTION).write_bytes(seal(whole.to_json().encode()))
        if quantization != "none":
            check_written(folder, task)
    return target


def _choose(task: Task, names: Sequence[str] | None) -> dict[str, Any]:
    """Returns the signatures of these names, in the task's order."""
    known = task.saved_model_signatures()
    if names is None:
        on_request = task.signatures_on_request()
        names = [name for name in known if name not in on_request]
    unknown = [name for name in names if name not in known]
    if unknown or "serving_default" not in names or isinstance(names, str):
        raise InputError(
            f"signatures must be some of {', '.join(known)}, serving_default among them; "
            f"got {names!r}." + did_you_mean(next(iter(unknown), ""), tuple(known))
        )
    return {name: function for name, function in known.items() if name in names}


def _requests(task: Task, names: tuple[str, ...], tokenizer: BaseTokenizer) -> list[Request]:
    """Returns what a server runs before its first user comes."""
    signatures = _choose(task, names)
    if task.compilation is None:
        return warmup_requests(signatures, tokenizer)
    names_compiled = task.COMPILED - task.RAGGED
    compiled = {name: each for name, each in signatures.items() if name in names_compiled}
    others = {name: each for name, each in signatures.items() if name not in compiled}
    return [
        *warmup_requests(others, tokenizer),
        *compiled_requests(compiled, tokenizer, task.compilation),
    ]


def _of_texts(task: Task, signatures: dict[str, Any]) -> dict[str, Any]:
    """Returns the signatures from texts alone to outputs of each; none without a tokenizer."""
    if task.tokenizer is None:
        return {}
    return {
        name: function
        for name, function in signatures.items()
        if takes_texts_alone(function) and name not in task.RAGGED
    }


def write_saved_model(module: tf.Module, folder: Path, signatures: dict[str, Any]) -> None:
    """Writes a module's SavedModel.

    Raises:
        InputError: The file system refuses: a full disk, no permission.
    """
    try:
        tf.saved_model.save(module, str(folder), signatures=to_tf_functions(signatures))
    except tf.errors.OpError as error:
        raise InputError(f"Cannot write {folder}: {first_line(error)}") from error


def _saved(task: Task, quantization: str) -> tf.Module:
    """Makes the module to save."""
    saved = tf.Module()
    saved.tokenizers = task.tokenizers
    add_weights(saved, task, quantization)
    return saved
