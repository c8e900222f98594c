"""Runs what was converted: a conversion that succeeds may still fail, or say something else."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.lite.model_file import custom_operations
from ktransformer.serving import Description, Translator
from ktransformer.text import END_ID, PAD_ID, START_ID

_TOKENIZER_OPERATIONS = {"TFText>FastSentencepieceTokenize", "TFText>FastSentencepieceDetokenize"}
# Of scores and logits, as a share of the greatest: for rounding, and for weights of few bits. The
# second only tells what is broken; what quantisation costs is for `verify` on real text.
_TOLERANCE, _ROUGH_TOLERANCE = 1e-3, 0.25


def check_conversion(content: bytes, translator: Translator, description: Description) -> None:
    """Checks that a converted translator runs and says what it said before.

    Args:
        content: The .tflite.
        translator: What it was converted from.
        description: How it was converted.

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
    source = _probe(translator, description.batch_size)
    texts = translator.tokenizer.decode(source)
    inputs: dict[str, dict[str, Any]] = {
        "serving_default": {"texts": texts},
        "beam": {"texts": texts},
        "ids": {"source": source},
        "encode": {"source": source},
    }
    start = {"ids": tf.fill([tf.shape(source)[0]], START_ID), "index": tf.constant(0)}
    for name in sorted(interpreter.get_signature_list(), reverse=True):
        if name == "decode_step":
            state = translator.encode(source)
            state.pop("limits")
            inputs[name] = {**start, **state}
        function = translator.translate if name == "serving_default" else getattr(translator, name)
        expected = function(**inputs[name])
        arrays = {key: tensor.numpy() for key, tensor in inputs[name].items()}
        try:
            outputs = interpreter.get_signature_runner(name)(**arrays)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"The converted {name} does not run: {reason}") from error
        _compare(name, expected, outputs, description.quantization)


def _probe(translator: Translator, batch_size: int | None) -> tf.Tensor:
    """Makes source ids `[B, S]` of several lengths, from all over the vocabulary."""
    rows, limit = batch_size or 2, translator.max_source_length
    source = np.full((rows, limit if batch_size else min(8, limit)), PAD_ID, np.int32)
    pieces = np.linspace(END_ID + 1, translator.tokenizer.vocabulary_size - 1, 7).astype(np.int32)
    for row in range(rows):
        length = min(1 + (row + 4) % 7, limit - 1)
        source[row, :length] = pieces[:length]
        source[row, length] = END_ID
    return tf.constant(source)


def _compare(
    name: str, expected: dict[str, tf.Tensor], outputs: dict[str, np.ndarray], quantization: str
) -> None:
    for key, tensor in expected.items():
        wanted, got = tensor.numpy(), outputs[key]
        if tensor.dtype.is_floating:
            tolerance = _TOLERANCE if quantization == "none" else _ROUGH_TOLERANCE
            limit = tolerance * max(1.0, np.abs(wanted).max())
            same = wanted.shape == got.shape and bool((np.abs(got - wanted) <= limit).all())
        else:  # Ids and texts may differ where a tie flips; their scores may not.
            same = key in ("ids", "text") or np.array_equal(wanted, got)
        if not same:
            raise InputError(f"The converted {name} gives another {key} than the model.")
