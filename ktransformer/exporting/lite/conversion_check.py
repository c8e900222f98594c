"""Runs a converted model: after a conversion that succeeds, it may fail or differ."""

import functools
from typing import Any

import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.exporting.difference import ROUGH_TOLERANCE, TOLERANCE, find_difference
from ktransformer.exporting.lite.model_file import custom_operations
from ktransformer.exporting.matching import Outputs
from ktransformer.tasks import Task

_TOKENIZER_OPERATIONS = {
    "TFText>FastSentencepieceTokenize",
    "TFText>FastSentencepieceDetokenize",
    "FastBertNormalize",
    "FastWordpieceTokenizeWithOffsets",
    "TFText>FastWordpieceDetokenize",
    "TFText>WhitespaceTokenizeWithOffsetsV2",
    "TFText>ByteSplitByOffsets",
    "TFText>ByteSplitWithOffsets",
    "TFText>NgramsStringJoin",
}


def check_conversion(
    content: bytes,
    task: Task,
    functions: dict[str, Any],
    probes: dict[str, dict[str, tf.Tensor]],
    quantization: str,
) -> None:
    """Checks that a converted model runs and has the outputs of the model.

    Args:
        content: The .tflite.
        task: The task that was converted.
        functions: The traced signatures that were converted, by name.
        probes: Inputs to try each on.
        quantization: How its weights are stored.

    Raises:
        InputError: It needs operations that no LiteRT has, does not run, or differs.
    """
    foreign = custom_operations(content) - _TOKENIZER_OPERATIONS
    if foreign:
        raise InputError(f"LiteRT has no operation for {', '.join(sorted(foreign))}.")
    interpreter = InterpreterWithCustomOps(
        model_content=content,
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
    )
    for name, function in functions.items():
        probe = probes[name]
        expected = {key: tensor.numpy() for key, tensor in function(**probe).items()}
        arrays = {key: tensor.numpy() for key, tensor in probe.items()}
        try:
            outputs = interpreter.get_signature_runner(name)(**arrays)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"The converted {name} does not run: {reason}") from error
        exact = quantization == "none"
        wrong = find_difference(
            task.by_choice(name, expected),
            task.by_choice(name, outputs),
            TOLERANCE if exact else ROUGH_TOLERANCE,
            functools.partial(_search_wider, task, name, probe) if exact else None,
            ranked_by=task.RANKED_BY,
            argmax_of=task.ARGMAX_OF,
            pad_id=task.pad_id,
        )
        if wrong is not None:
            raise InputError(f"The converted {name} gives another {wrong} than the model.")


def _search_wider(task: Task, signature: str, probe: dict[str, tf.Tensor]) -> Outputs:
    outputs = task.search_wider(signature, probe)
    return {name: tensor.numpy() for name, tensor in outputs.items()}
