"""The signatures of a translator's .tflite."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.tasks.controls import Controls
from ktransformer.tasks.document_outputs import sentences_inputs
from ktransformer.tasks.graph_function import graph_function
from ktransformer.tasks.search_task import TEXT_SIGNATURES
from ktransformer.tasks.task import LiteSignature
from ktransformer.tasks.terms import lite_terms
from ktransformer.tasks.written_texts import fix_width, probe_ids

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator

MAX_TARGET_LENGTH = 65_536  # The longest output a client may have to hold; see export/c/lite.c.


def lite_signature(translator: "Translator", name: str, batch_size: int | None) -> LiteSignature:
    """Returns one of a translator's `LITE_SIGNATURES`; see `Task.lite_signature`."""
    if translator.max_target_length > MAX_TARGET_LENGTH:
        raise InputError(
            f"max_target_length must be at most {MAX_TARGET_LENGTH} in a .tflite; "
            f"got {translator.max_target_length}."
        )
    if batch_size is not None and name in translator.RAGGED:
        raise InputError(
            f"The signature {name} takes any batch size, for the number of sentences is not fixed; "
            f"got batch_size={batch_size}."
        )
    source = _probe(translator, batch_size)
    if name in (*TEXT_SIGNATURES, "document"):
        texts = translator.tokenizer.decode(source)
        return translator.text_signature(name, batch_size, {"texts": texts})
    if name == "sentences":
        texts = translator.tokenizer.decode(source)
        return translator.text_signature(name, batch_size, sentences_inputs(texts.numpy()))
    if name == "annotate":
        return translator.text_signature(
            name,
            batch_size,
            {
                "source": translator.tokenizer.decode(source),
                "target": translator.target_tokenizer.decode(source),
            },
        )
    if name == "controlled":
        texts = translator.tokenizer.decode(source).numpy()
        return translator.text_signature(name, batch_size, Controls().to_inputs(texts))
    if name == "terms":
        return lite_terms(translator, translator.tokenizer.decode(source), batch_size)
    length = translator.max_source_length if batch_size else None
    ids = {"source": tf.TensorSpec([batch_size, length], tf.int32)}
    if name == "decode_step":
        return _decode_step(translator, source, ids["source"])
    function = translator.encode if name == "encode" else _ids_function(translator, batch_size)
    return LiteSignature(function, ids, {"source": source})


def _decode_step(translator: "Translator", source: tf.Tensor, spec: tf.TensorSpec) -> LiteSignature:
    """Returns the signature whose state has the shapes that `encode` returns for `source`."""
    encode: Any = translator.encode
    if spec.shape.is_fully_defined():  # Then so are those of the state.
        encode = graph_function(encode.python_function, input_signature=[spec])
    state = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for name, tensor in encode.get_concrete_function().structured_outputs.items()
    }
    inputs = {
        "ids": tf.TensorSpec(spec.shape[:1], tf.int32),
        "index": tf.TensorSpec([], tf.int32),
    }
    start = translator.target_tokenizer.special_ids.start
    probe = {"ids": tf.fill(tf.shape(source)[:1], start), "index": tf.constant(0)}
    inputs, probe = {**inputs, **state}, {**probe, **translator.encode(source)}
    del inputs["limits"], probe["limits"]
    return LiteSignature(translator.decode_step, inputs, probe)


def _probe(translator: "Translator", batch_size: int | None) -> tf.Tensor:
    """Makes source ids `[B, S]` of several lengths, from all over the vocabulary."""
    limit = translator.max_source_length
    lengths = [min(1 + (row + 4) % 7, limit - 1) for row in range(batch_size or 2)]
    return probe_ids(translator.tokenizer, lengths, limit if batch_size else min(8, limit))


def _ids_function(
    translator: "Translator", batch_size: int | None
) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns the translation of ids, with its output's shape fixed if the batch is."""

    def fixed_ids(source: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, Any] = translator.ids.python_function(source)
        shape = [batch_size, translator.max_target_length]
        fixed = {name: tf.reshape(found[name], shape[:1]) for name in ("score", "truncated")}
        return {"ids": fix_width(found["ids"], shape, translator.model.pad_id), **fixed}

    return translator.ids if batch_size is None else fixed_ids
