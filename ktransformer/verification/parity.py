"""Proof that an export of any model gives what the model gives: both run on the same inputs."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel
from ktransformer.exporting.matching import Comparison
from ktransformer.files import readable_size, size_on_disk
from ktransformer.tasks import ImageClassifier, MaskFiller, registered_tasks
from ktransformer.verification.tolerances import Tolerances, check_demands


@dataclasses.dataclass(frozen=True)
class Parity:
    """What one export made of the inputs, against the model itself.

    Attributes:
        name: The path of the export.
        kind: `SavedModel` or `tflite`, and how it is quantised.
        signature: Which of its signatures ran.
        bytes: Its size on the disk.
        load_seconds: To open it, without the imports.
        milliseconds: An input, the median over the batches, all exports taking turns.
        identical: Share of inputs of which all texts, classes and other choices are the model's.
        difference: The greatest between two numbers of inputs whose choices are the model's.
        broken: What was demanded and does not hold, in words.
    """

    name: str
    kind: str
    signature: str
    bytes: int
    load_seconds: float
    milliseconds: float
    identical: float
    difference: float
    broken: tuple[str, ...]


class Export:
    """A SavedModel or a .tflite of any kind of model, opened.

    Args:
        path: Its folder or file.
        threads: CPU threads of LiteRT; TensorFlow's are set for the process.

    Raises:
        InputError: There is no export, or a damaged one.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        if not Path(path).exists():
            raise InputError(f"{path}: there is no such file or folder.")
        start = time.perf_counter()
        file = Path(path).is_file()
        self.model: Any = LiteModel(path, threads=threads) if file else SavedModel(path)
        self.load_seconds = time.perf_counter() - start

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of its signatures."""
        names: tuple[str, ...] = self.model.description.signatures
        return names

    def run(self, signature: str, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature of one input, in batches of the size that the export is fixed to."""
        (name,) = self.model.inputs(signature)
        size = self.model.description.batch_size
        if size is None:
            outputs: dict[str, np.ndarray] = self.model.run(signature, **{name: inputs})
            return outputs
        parts: list[dict[str, np.ndarray]] = []
        for start in range(0, len(inputs), size):
            chosen = inputs[start : start + size]
            missing = np.repeat(chosen[:1], size - len(chosen), axis=0)
            found = self.model.run(signature, **{name: np.concatenate([chosen, missing])})
            parts.append({key: values[: len(chosen)] for key, values in found.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


_ONLY_IN_SAVED_MODELS = frozenset({"label"})


def compare_exports(
    function: Callable[[tf.Tensor], Mapping[str, tf.Tensor]],
    exports: Sequence[Export],
    signature: str,
    inputs: np.ndarray,
    *,
    batch_size: int = 1,
    tolerances: Tolerances | None = None,
) -> list[Parity]:
    """Runs a model and exports of it on the same inputs, and compares.

    Args:
        function: A method of the servable that was exported, such as `MaskFiller.fill_texts`.
        exports: What to compare with it.
        signature: The name of the signature that does the same.
        inputs: What they take, `[N, ...]`: texts or images.
        batch_size: Inputs at once.
        tolerances: What may differ.

    Returns:
        One `Parity` an export; where there is none, the model is not run either.

    Raises:
        InputError: There is no input, an export lacks the signature, or nothing is demanded of
            one.
    """
    if not len(inputs):
        raise InputError("There is no input to compare the exports on.")
    tolerances = tolerances or Tolerances()
    for export in exports:
        check_demands(export.model.path, export.model.description, tolerances)
        if signature not in export.signatures:
            known = ", ".join(export.signatures)
            raise InputError(f"{export.model.path} has no signature {signature}, only {known}.")
        export.run(signature, inputs[:1])  # What is done once need not be timed.
    if not exports:
        return []
    found = [Comparison(_ranked_by(export), _ONLY_IN_SAVED_MODELS) for export in exports]
    seconds: list[list[float]] = [[] for _ in exports]
    for first in range(0, len(inputs), batch_size):
        batch = inputs[first : first + batch_size]
        expected = {name: tensor.numpy() for name, tensor in function(tf.constant(batch)).items()}
        for export, results, times in zip(exports, found, seconds, strict=True):
            begin = time.perf_counter()
            outputs = export.run(signature, batch)
            times.append((time.perf_counter() - begin) / len(batch))
            results.add(expected, outputs)
    return [
        _judge(export, signature, results, times, tolerances)
        for export, results, times in zip(exports, found, seconds, strict=True)
    ]


def _ranked_by(export: Export) -> Mapping[str, str]:
    return registered_tasks()[export.model.description.kind].RANKED_BY


def verify_mask_filler(
    filler: MaskFiller, exports: Sequence[Export], texts: Sequence[str], **options: Any
) -> list[Parity]:
    """Compares all signatures of exports of a masked language model on texts.

    Args:
        filler: The model.
        exports: Exports of it.
        texts: Texts with and without masks.
        **options: What `compare_exports` takes.
    """
    inputs = np.array([text.encode() for text in texts], dtype=object)
    functions = {"serving_default": filler.fill_texts, "embed": filler.embed, "score": filler.score}
    results: list[Parity] = []
    for signature, function in functions.items():
        having = [export for export in exports if signature in export.signatures]
        results += compare_exports(function, having, signature, inputs, **options)
    return results


def verify_image_classifier(
    classifier: ImageClassifier, exports: Sequence[Export], paths: Sequence[Path], **options: Any
) -> list[Parity]:
    """Compares all signatures of exports of an image classifier on images.

    Args:
        classifier: The model.
        exports: Exports of it.
        paths: The images' files; a .tflite gets their pixels, resized.
        **options: What `compare_exports` takes.

    Raises:
        InputError: One of them is no image.
    """
    contents = np.array([path.read_bytes() for path in paths], dtype=object)
    pixels = np.array([_pixels(classifier, *image) for image in zip(paths, contents, strict=True)])
    lite = [export for export in exports if export.model.kind == LiteModel.kind]
    saved = [export for export in exports if export not in lite]

    def units() -> np.ndarray:
        return pixels.astype("float32") / 255

    results: list[Parity] = []
    for having, signature, function, inputs in (
        (saved, "serving_default", classifier.classify, lambda: contents),
        (saved, "pixels", classifier.classify_pixels, lambda: pixels),
        (lite, "serving_default", classifier.classify_pixels, lambda: pixels),
        (lite, "unit_pixels", classifier.classify_unit_pixels, units),
    ):
        having = [export for export in having if signature in export.signatures]
        if having:
            results += compare_exports(function, having, signature, inputs(), **options)
    return results


def _pixels(classifier: ImageClassifier, path: Path, content: bytes) -> np.ndarray:
    try:
        return classifier.resized_pixels(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def parity_table(results: Sequence[Parity]) -> str:
    """Returns a Markdown table of the results, and the verdict as its last line."""
    lines = [
        "| what | signature | kind | size | load, s | ms an input | identical | difference |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {result.name} | {result.signature} | {result.kind} | {readable_size(result.bytes)} "
        f"| {result.load_seconds:.2f} | {result.milliseconds:.2f} | {result.identical:.4f} "
        f"| {result.difference:.6f} |"
        for result in results
    ]
    broken = [f"BROKEN: {broken}" for result in results for broken in result.broken]
    return "\n".join([*lines, "", *(broken or ["All tolerances hold."])])


def _judge(
    export: Export, signature: str, found: Comparison, seconds: list[float], tolerances: Tolerances
) -> Parity:
    """Holds what was found against the limits, each tested so that NaN breaks it."""
    model, identical, broken = export.model, statistics.fmean(found.same), []
    limits, quantization = tolerances.of(model.description), model.description.quantization
    least, most = limits.get("min_identical", 0.0), limits.get("max_score_difference", math.inf)
    difference = found.difference if any(found.same) else math.nan
    if not identical >= least:
        broken.append(
            f"{model.path}: {identical:.4f} of the inputs are identical, "
            f"at least {least} were to be."
        )
    if not any(found.same):
        broken.append(f"{model.path}: on no input are the choices the model's.")
    elif not difference <= most:
        broken.append(
            f"{model.path}: numbers differ by {difference:.6f}, at most {most} was allowed."
        )
    return Parity(
        name=str(model.path),
        kind=model.kind if quantization == "none" else f"{model.kind}, {quantization}",
        signature=signature,
        bytes=size_on_disk(model.path),
        load_seconds=export.load_seconds,
        milliseconds=1000 * statistics.median(seconds),
        identical=identical,
        difference=difference,
        broken=tuple(broken),
    )
