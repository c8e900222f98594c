"""Writes a translator as a folder of CTranslate2."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.conversion.converted_model import DESCRIPTION, TARGET_TOKENIZER, TOKENIZER
from ktransformer.conversion.ctranslate2.library import import_ctranslate2
from ktransformer.conversion.ctranslate2.model import QUANTIZATIONS, WEIGHTS, open_translator
from ktransformer.conversion.ctranslate2.specification import find_obstacles, make_spec
from ktransformer.conversion.dropped_rules import without_loop_rule
from ktransformer.conversion.problems import Problems
from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_folder, new_folder
from ktransformer.files.checksums import folder_checksums, seal
from ktransformer.saving.weights import check_weights
from ktransformer.tasks import Task, Translator, with_article
from ktransformer.tasks.task import check_task
from ktransformer.tasks.translator import TEXT_SIGNATURES
from ktransformer.tasks.written_texts import probe_ids

KIND = FolderKind(
    "a CTranslate2 folder",
    (
        r"model\.bin",
        r"config\.json",
        r"(shared|source|target)_vocabulary\.json",
        r"(target_)?tokenizer\.model",
        r"ktransformer\.json",
    ),
    required=(WEIGHTS, DESCRIPTION),
)
_PROBE_LENGTHS = (3, 11, 24)
# Of log-probabilities, as a share of the greatest: for rounding, and for weights of few bits. The
# second only finds a broken model; `verify` measures the cost of quantisation on real text.
_TOLERANCE, _ROUGH_TOLERANCE = 1e-3, 0.25


def export_ctranslate2(
    task: Task,
    path: str | Path,
    *,
    quantization: str = "none",
    overwrite: bool = False,
    **labels: str,
) -> Path:
    """Writes a translator as a CTranslate2 folder, with its tokenizers beside the weights.

    The folder is compared with the model before it takes its name. Heads of keys and values that
    several heads of queries share are repeated.

    Args:
        task: A `Translator`.
        path: The folder to write.
        quantization: How weights are stored: `"none"` for float32, `"float16"`, `"int16"`,
            `"int8"` or `"int8_float16"`; see CTranslate2's page on quantisation.
        overwrite: Whether such a folder that is already there may be replaced.
        **labels: More for the description: `source_label` and `target_label`.

    Returns:
        The folder.

    Raises:
        TypeError: `task` is no `Task`.
        InputError: `path` may not be written, the package ctranslate2 is not installed, CTranslate2
            cannot express the model (everything that it cannot is named), the converted model has
            other scores, or the model holds weights that are infinite or NaN.

    Example:
        ```python
        export_ctranslate2(ktransformer.load("runs/multi30k"), "multi30k.ct2", quantization="int8")
        ```
    """
    check_task(task)
    if quantization not in QUANTIZATIONS:
        raise InputError(
            f"quantization must be one of {', '.join(QUANTIZATIONS)} for CTranslate2; "
            f"got {quantization!r}."
        )
    path = Path(path)
    check_new_folder(path, overwrite=overwrite, kind=KIND)
    library = import_ctranslate2()
    if not isinstance(task, Translator):
        raise InputError(
            f"Only a translator is written for CTranslate2; this is {with_article(task.kind)}."
        )
    task = without_loop_rule(task, "CTranslate2")
    problems = Problems()
    find_obstacles(task, problems)
    problems.raise_if_any("This translator", "be expressed in CTranslate2")
    check_weights(task.model)
    task = task.in_float32()
    description = task.describe(TEXT_SIGNATURES, quantization=quantization, **labels)
    spec = make_spec(task, library.specs)
    spec.validate()
    spec.optimize(None if quantization == "none" else quantization)
    with new_folder(path, overwrite=overwrite, kind=KIND) as folder:
        spec.save(str(folder))
        for tokenizer, name in zip(task.tokenizers, (TOKENIZER, TARGET_TOKENIZER), strict=False):
            tokenizer.save(folder / name)
        _check_scores(folder, task, quantization)
        whole = dataclasses.replace(description, files=folder_checksums(folder))
        (folder / DESCRIPTION).write_bytes(seal(whole.to_json().encode()))
    return path


def _check_scores(folder: Path, translator: Translator, quantization: str) -> None:
    """Compares the log-probability of every token of some targets with the model's."""
    source = _probe(translator.tokenizer, translator.max_source_length)
    target = _probe(translator.target_tokenizer, translator.max_target_length)[::-1]
    special = translator.target_tokenizer.special_ids
    start = np.full((len(target), 1), special.start, np.int32)
    inputs = {"source": source, "target": np.concatenate([start, target[:, :-1]], axis=1)}
    logits = translator.model({k: tf.constant(v) for k, v in inputs.items()}, training=False)
    expected = tf.gather(tf.nn.log_softmax(logits), target, batch_dims=2).numpy()
    results = open_translator(folder, quantization).score_batch(
        _pieces(translator.tokenizer, source), _pieces(translator.target_tokenizer, target)
    )
    tolerance = _TOLERANCE if quantization == "none" else _ROUGH_TOLERANCE
    limit = tolerance * max(1.0, float(np.abs(expected).max()))
    for row, ids, result in zip(expected, target, results, strict=True):
        wanted = row[ids != special.pad]
        if not np.abs(wanted - result.log_probs).max() <= limit:
            raise InputError("The converted model gives other scores than the model.")


def _probe(tokenizer: Any, limit: int) -> np.ndarray:
    lengths = [min(length, limit - 1) for length in _PROBE_LENGTHS]
    return probe_ids(tokenizer, lengths, max(lengths) + 1).numpy()


def _pieces(tokenizer: Any, rows: np.ndarray) -> list[list[str]]:
    """Returns the pieces of ids `[B, T]`, without padding and the end token."""
    pad = tokenizer.special_ids.pad
    return [tokenizer.pieces(row[row != pad][:-1]) for row in rows]
