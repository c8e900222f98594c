"""Writes the two signatures of a translator that drive the search as ONNX."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.conversion.converted_model import DESCRIPTION, TARGET_TOKENIZER, TOKENIZER
from ktransformer.errors import InputError, first_line
from ktransformer.files import FolderKind, check_new_folder, new_folder
from ktransformer.files.checksums import folder_checksums, seal
from ktransformer.saving.weights import check_weights
from ktransformer.tasks import LiteSignature, Task, Translator, with_article
from ktransformer.tasks.graph_function import graph_function
from ktransformer.tasks.task import check_task

SIGNATURES = ("encode", "decode_step")
KIND = FolderKind(
    "an ONNX folder",
    (r"(encode|decode_step)\.onnx", r"(target_)?tokenizer\.model", r"ktransformer\.json"),
    required=("encode.onnx", DESCRIPTION),
)
_OPSET = 18
_TOLERANCE = 1e-4  # Of any output, as a share of the greatest.


def export_onnx(task: Task, path: str | Path, *, overwrite: bool = False, **labels: str) -> Path:
    """Writes `encode.onnx` and `decode_step.onnx`, with the tokenizers beside them.

    Their inputs and outputs are those of the signatures of a .tflite: see `Translator.encode` and
    `Translator.decode_step`. The state that a step returns is called `next_cache_0`, ..., because
    ONNX has one name for one tensor. Both are compared with the model, by ONNX Runtime, before the
    folder takes its name.

    Args:
        task: A `Translator`.
        path: The folder to write.
        overwrite: Whether such a folder that is already there may be replaced.
        **labels: More for the description: `source_label` and `target_label`.

    Returns:
        The folder.

    Raises:
        TypeError: `task` is no `Task`.
        InputError: `path` may not be written, tf2onnx or onnxruntime is not installed, ONNX cannot
            express the model, the converted model gives other numbers, or the model holds weights
            that are infinite or NaN.

    Example:
        ```python
        export_onnx(ktransformer.load("runs/multi30k"), "multi30k.onnx")
        ```
    """
    check_task(task)
    path = Path(path)
    check_new_folder(path, overwrite=overwrite, kind=KIND)
    import_converter()
    if not isinstance(task, Translator):
        raise InputError(
            f"Only a translator is written as ONNX; this is {with_article(task.kind)}."
        )
    check_weights(task.model)
    task = task.in_float32()
    task.check_before_export()
    description = task.describe(SIGNATURES, **labels)
    with new_folder(path, overwrite=overwrite, kind=KIND) as folder:
        for name in SIGNATURES:
            _write(folder / f"{name}.onnx", name, task.lite_signature(name, None))
        for tokenizer, name in zip(task.tokenizers, (TOKENIZER, TARGET_TOKENIZER), strict=False):
            tokenizer.save(folder / name)
        whole = dataclasses.replace(description, files=folder_checksums(folder))
        (folder / DESCRIPTION).write_bytes(seal(whole.to_json().encode()))
    return path


def import_converter() -> tuple[Any, Any]:
    """Returns the modules `tf2onnx` and `onnxruntime`.

    Raises:
        InputError: One is not installed.
    """
    try:
        return importlib.import_module("tf2onnx"), importlib.import_module("onnxruntime")
    except ImportError as error:
        raise InputError(
            "The format onnx needs the packages tf2onnx and onnxruntime, which are not both "
            "installed: pip install 'ktransformer[onnx]'."
        ) from error


def _write(file: Path, name: str, signature: LiteSignature) -> None:
    """Converts a signature, and compares the file with it."""
    converter, runtime = import_converter()
    specs = [tf.TensorSpec(spec.shape, spec.dtype, key) for key, spec in signature.inputs.items()]
    function = getattr(signature.function, "python_function", signature.function)

    def by_place(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = function(**dict(zip(signature.inputs, tensors, strict=True)))
        return {
            f"next_{key}" if key in signature.inputs else key: tensor
            for key, tensor in outputs.items()
        }

    graph = graph_function(by_place, input_signature=specs)
    try:
        converter.convert.from_function(graph, specs, opset=_OPSET, output_path=str(file))
        session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        outputs = [each.name for each in session.get_outputs()]
        feed = {key: np.asarray(tensor) for key, tensor in signature.probe.items()}
        found = dict(zip(outputs, session.run(outputs, feed), strict=True))
    except Exception as error:  # Both raise exceptions of their own kinds, and others.
        raise InputError(
            f"ONNX cannot express {name} of this model: {first_line(error)}"
        ) from error
    for key, tensor in graph(*signature.probe.values()).items():
        expected = tensor.numpy()
        limit = _TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if found[key].shape != expected.shape or not np.abs(found[key] - expected).max() <= limit:
            raise InputError(f"The converted {name} gives another {key} than the model.")
