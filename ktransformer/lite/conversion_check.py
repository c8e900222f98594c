"""Runs what was converted: a conversion that succeeds may still fail, or say something else."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.lite.model_file import custom_operations

_TOKENIZER_OPERATIONS = {"TFText>FastSentencepieceTokenize", "TFText>FastSentencepieceDetokenize"}
# Of scores and logits, as a share of the greatest: for rounding, and for weights of few bits. The
# second only tells what is broken; what quantisation costs is for `verify` on real text.
_TOLERANCE, _ROUGH_TOLERANCE = 1e-3, 0.25
_CHOICES = ("ids", "text", "piece", "class", "label")


def check_conversion(
    content: bytes,
    functions: dict[str, Any],
    probes: dict[str, dict[str, tf.Tensor]],
    quantization: str,
) -> None:
    """Checks that a converted model runs and says what it said before.

    Args:
        content: The .tflite.
        functions: What it was converted from, the signatures by name.
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
        expected = function(**probes[name])
        arrays = {key: tensor.numpy() for key, tensor in probes[name].items()}
        try:
            outputs = interpreter.get_signature_runner(name)(**arrays)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"The converted {name} does not run: {reason}") from error
        _compare(name, expected, outputs, quantization)


def _compare(
    name: str, expected: dict[str, tf.Tensor], outputs: dict[str, np.ndarray], quantization: str
) -> None:
    for key, tensor in expected.items():
        wanted, got = tensor.numpy(), outputs[key]
        if tensor.dtype.is_floating:
            tolerance = _TOLERANCE if quantization == "none" else _ROUGH_TOLERANCE
            limit = tolerance * max(1.0, np.abs(wanted).max())
            same = wanted.shape == got.shape and bool((np.abs(got - wanted) <= limit).all())
        elif key in _CHOICES:  # Where a tie flips, they may differ; their scores may not.
            rank = wanted.ndim - (key == "ids")  # Other ids may be more or fewer.
            same = wanted.shape[:rank] == got.shape[:rank]
        else:
            same = np.array_equal(wanted, got)
        if not same:
            raise InputError(f"The converted {name} gives another {key} than the model.")
