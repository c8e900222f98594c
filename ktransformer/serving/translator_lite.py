"""The signatures of a translator's .tflite: those of its SavedModel, and the loop in two halves."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.serving.servable import LiteSignature
from ktransformer.text import END_ID, PAD_ID, START_ID

if TYPE_CHECKING:
    from ktransformer.serving.translator import Translator

TEXT_SIGNATURES = ("serving_default", "beam")
TRANSLATOR_SIGNATURES = (*TEXT_SIGNATURES, "ids", "encode", "decode_step")
MAX_TARGET_LENGTH = 65_536  # What a client may take for the longest output; export/c/lite.c does.


def translator_lite_signature(
    translator: "Translator", name: str, batch_size: int | None
) -> LiteSignature:
    """Returns one of `TRANSLATOR_SIGNATURES`.

    Args:
        translator: What is to be converted.
        name: Which signature.
        batch_size: None for any number of texts of any length. A number fixes all shapes: so many
            texts, sources padded to `max_source_length`, and ids given padded to
            `max_target_length`.

    Raises:
        InputError: The longest target is too long for a .tflite.
    """
    if translator.max_target_length > MAX_TARGET_LENGTH:
        raise InputError(
            f"max_target_length must be at most {MAX_TARGET_LENGTH} in a .tflite; "
            f"got {translator.max_target_length}."
        )
    source = _probe(translator, batch_size)
    if name in TEXT_SIGNATURES:
        function = translator.translate if name == "serving_default" else translator.beam
        texts = {"texts": tf.TensorSpec([batch_size], tf.string)}
        probe = {"texts": translator.tokenizer.decode(source)}
        return LiteSignature(function, texts, probe, takes_text=True)
    length = translator.max_source_length if batch_size else None
    ids = {"source": tf.TensorSpec([batch_size, length], tf.int32)}
    if name == "decode_step":
        return _decode_step(translator, source, ids["source"])
    function = translator.encode if name == "encode" else _ids(translator, batch_size)
    return LiteSignature(function, ids, {"source": source})


def _decode_step(translator: "Translator", source: tf.Tensor, spec: tf.TensorSpec) -> LiteSignature:
    """Returns the signature that takes what `encode` gives for sources like `source`."""
    encode: Any = translator.encode
    if spec.shape.is_fully_defined():  # Then so are the shapes of what it gives.
        encode = tf.function(encode.python_function, input_signature=[spec])
    state = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for name, tensor in encode.get_concrete_function().structured_outputs.items()
    }
    inputs = {"ids": tf.TensorSpec(spec.shape[:1], tf.int32), "index": tf.TensorSpec([], tf.int32)}
    probe = {"ids": tf.fill(tf.shape(source)[:1], START_ID), "index": tf.constant(0)}
    inputs, probe = {**inputs, **state}, {**probe, **translator.encode(source)}
    del inputs["limits"], probe["limits"]
    return LiteSignature(translator.decode_step, inputs, probe)


def _probe(translator: "Translator", batch_size: int | None) -> tf.Tensor:
    """Makes source ids `[B, S]` of several lengths, from all over the vocabulary."""
    rows, limit = batch_size or 2, translator.max_source_length
    source = np.full((rows, limit if batch_size else min(8, limit)), PAD_ID, np.int32)
    pieces = np.linspace(END_ID + 1, translator.tokenizer.vocabulary_size - 1, 7).astype(np.int32)
    for row in range(rows):
        length = min(1 + (row + 4) % 7, limit - 1)
        source[row, :length] = pieces[:length]
        source[row, length] = END_ID
    return tf.constant(source)


def _ids(
    translator: "Translator", batch_size: int | None
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns the translation of ids, with its output's shape fixed if the batch is."""

    def fixed_ids(source: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, Any] = translator.ids.python_function(source)
        shape = [batch_size, translator.max_target_length]
        ids = tf.concat([found["ids"], tf.fill(shape, PAD_ID)], axis=1)
        fixed = {name: tf.ensure_shape(found[name], shape[:1]) for name in ("score", "truncated")}
        return {"ids": tf.slice(ids, [0, 0], shape), **fixed}

    return translator.ids if batch_size is None else fixed_ids
