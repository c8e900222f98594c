"""Converts a model to one .tflite."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.lite.python.convert import convert_saved_model

from ktransformer.errors import InputError, did_you_mean, first_line
from ktransformer.exporting.lite.compaction import compact, share_constants
from ktransformer.exporting.lite.companions import target_tokenizer_beside, tokenizer_beside
from ktransformer.exporting.lite.conversion_check import check_conversion
from ktransformer.exporting.lite.copies import guard_copies
from ktransformer.exporting.lite.model_file import pack, seal_file, set_metadata, unpack
from ktransformer.exporting.lite.quantization import to_float16, to_int8
from ktransformer.exporting.lite.shapes import make_shapes_constant
from ktransformer.exporting.saved_model.export import write_saved_model
from ktransformer.files import check_new_file, new_file
from ktransformer.numbers import to_integer
from ktransformer.saving.weights import check_weights
from ktransformer.tasks import LiteSignature, Task
from ktransformer.tasks.graph_function import graph_function, inlined
from ktransformer.tasks.task import check_task
from ktransformer.text import BaseTokenizer

QUANTIZATIONS: dict[str, Callable[[Any], None]] = {
    "none": lambda model: None,
    "float16": to_float16,
    "dynamic_int8": to_int8,
}


def export_lite(
    task: Task,
    path: str | Path,
    *,
    signatures: Sequence[str] | None = None,
    quantization: str = "none",
    batch_size: int | None = None,
    overwrite: bool = False,
    **labels: str,
) -> Path:
    """Writes a model as one .tflite file; its signatures share their weights.

    A file with a signature that takes texts needs tensorflow-text's operations in the
    interpreter. One without has builtin operations only; the tokenizer that its ids belong to
    is written beside it, as `FILE.tokenizer.model`. A model of mixed precision is
    converted in float32, for LiteRT has few operations in less.

    Args:
        task: The task: a `Translator`, a `MaskFiller`, an `ImageClassifier`, or one of your own.
        path: The file to write.
        signatures: Which of the task's `LITE_SIGNATURES` go in; None for all but those
            of `LITE_ON_REQUEST` and, with a `batch_size`, those of `RAGGED`.
        quantization: How weights are stored: `"none"`, `"float16"` or `"dynamic_int8"`.
        batch_size: None for any number of inputs, texts of any length. A number fixes all shapes,
            for runtimes that cannot resize, such as LiteRT's in browsers.
        overwrite: Whether a file that is already there may be replaced, and the tokenizer
            beside it.
        **labels: More for the description: a translator's `source_label` and `target_label`.

    Returns:
        The file.

    Raises:
        TypeError: `task` is no `Task`, as a model is.
        InputError: `path` may not be written, a signature or quantisation is unknown, the
            tokenizer's LiteRT form would give other ids, a translator's model decodes otherwise
            than it is trained (`check_decoding`), the model does not convert or has other scores
            when converted, or it is not built or holds weights that are infinite or NaN.
    """
    check_task(task)
    check_weights(task.model)
    if batch_size is not None:
        batch_size = to_integer("batch_size", batch_size, least=1)
    names = _names(task, signatures, batch_size)
    _check(quantization)
    path = Path(path)
    check_new_file(path, overwrite=overwrite)
    task = task.in_float32()
    chosen = {name: task.lite_signature(name, batch_size) for name in names}
    texts = [name for name, signature in chosen.items() if signature.takes_text]
    beside = [] if texts else _tokenizers_beside(path, task.tokenizers)
    for name, _ in beside:
        check_new_file(name, overwrite=overwrite)
    _check_tokenizer(task, texts)
    task.check_before_export()
    description = task.describe(names, batch_size=batch_size, quantization=quantization, **labels)
    functions = _trace(task, chosen)
    model = _convert(functions)
    set_metadata(model, description.to_json())
    QUANTIZATIONS[quantization](model)
    guard_copies(model)
    if quantization != "none":  # Else the tensors keep their names, which profilers show.
        compact(model)
    content = pack(model)
    probes = {name: signature.probe for name, signature in chosen.items()}
    check_conversion(content, task, functions, probes, quantization)
    with new_file(path, overwrite=overwrite) as file:
        # Before the small file takes its name: a disk may be full.
        file.write_bytes(seal_file(content))
        for name, tokenizer in beside:
            with new_file(name, overwrite=overwrite) as new:
                tokenizer.save(new)
    return path


def _tokenizers_beside(
    path: Path, tokenizers: Sequence[BaseTokenizer]
) -> list[tuple[Path, BaseTokenizer]]:
    paths = tokenizer_beside(path), target_tokenizer_beside(path)
    return list(zip(paths, tokenizers, strict=False))


def _names(task: Task, signatures: Sequence[str] | None, batch_size: int | None) -> tuple[str, ...]:
    """Returns the signatures that were asked for, in the task's order."""
    known = task.LITE_SIGNATURES
    if signatures is None:
        left_out = task.LITE_ON_REQUEST | (task.RAGGED if batch_size else frozenset())
        return tuple(name for name in known if name not in left_out)
    unknown = [name for name in signatures if name not in known]
    if unknown or not signatures or isinstance(signatures, str):
        raise InputError(
            f"signatures must be some of {', '.join(known)}; got {signatures!r}."
            + did_you_mean(next(iter(unknown), ""), known)
        )
    return tuple(name for name in known if name in signatures)


def _check(quantization: str) -> None:
    if quantization not in QUANTIZATIONS:
        raise InputError(
            f"quantization must be one of {', '.join(QUANTIZATIONS)}; got {quantization!r}."
        )


def _check_tokenizer(task: Task, texts: Sequence[str]) -> None:
    """Checks that the tokenizer's LiteRT form gives the same ids, for the signatures `texts`."""
    obstacle = next(filter(None, (each.lite_obstacle for each in task.tokenizers)), None)
    if texts and obstacle:
        raise InputError(
            f"This tokenizer has no LiteRT form that gives the same ids: {obstacle}. "
            f"Leave out the signatures that take texts, {', '.join(texts)}, or write a SavedModel."
        )


def _trace(task: Task, chosen: dict[str, LiteSignature]) -> dict[str, Any]:
    """Traces the signatures with every weight as one constant, which they all share."""
    constants = [(weight, tf.constant(weight.value)) for weight in task.model.weights]

    def traced(function: Callable[..., Any], inputs: dict[str, tf.TensorSpec]) -> Any:
        def frozen(**tensors: tf.Tensor) -> Any:
            with keras.StatelessScope(state_mapping=constants), inlined():
                return getattr(function, "python_function", function)(**tensors)

        return graph_function(frozen).get_concrete_function(**inputs)

    return {
        name: traced(signature.function, signature.inputs) for name, signature in chosen.items()
    }


def _convert(functions: dict[str, Any]) -> Any:
    """Converts traced signatures, in float32; returns the unpacked model.

    `tf.lite.TFLiteConverter` reads the SavedModel three times, for checks and for debugging, and
    unpacks and packs the model twice, which takes longer than the conversion. This calls the same
    converter with the same options, once.
    """
    module = tf.Module()
    module.functions = functions
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(module, Path(folder), functions)
        try:
            content: bytes = convert_saved_model(
                saved_model_dir=folder,
                saved_model_version=1,  # Of the format.
                saved_model_tags={tf.saved_model.SERVING},
                saved_model_exported_names=list(functions),
                target_ops={tf.lite.OpsSet.TFLITE_BUILTINS},  # No Flex.
                allow_custom_ops=True,  # tensorflow-text's; the check refuses others.
                enable_composite_direct_lowering=True,
            )
        except Exception as error:  # ConverterError, or an exception of MLIR.
            raise InputError(f"LiteRT cannot express this model: {first_line(error)}") from error
    model = unpack(content)
    make_shapes_constant(model)
    share_constants(model)
    return model
