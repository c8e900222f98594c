"""The signatures of a translator's .tflite, and the inputs that all its exports are tried on."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.tasks.description import Description
from ktransformer.tasks.graph_function import graph_function
from ktransformer.tasks.inputs import cut_texts
from ktransformer.tasks.task import LiteSignature, SignatureCheck

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator

_FEW = 100  # Examples that all signatures but the first are compared on.
MAX_TARGET_LENGTH = 65_536  # The longest output a client may have to hold; see export/c/lite.c.


def lite_signature(translator: "Translator", name: str, batch_size: int | None) -> LiteSignature:
    """Returns one of a translator's `LITE_SIGNATURES`; see `Task.lite_signature`."""
    if translator.max_target_length > MAX_TARGET_LENGTH:
        raise InputError(
            f"max_target_length must be at most {MAX_TARGET_LENGTH} in a .tflite; "
            f"got {translator.max_target_length}."
        )
    source = _probe(translator, batch_size)
    by_texts = {"serving_default": translator.translate_texts, "beam": translator.beam}
    if name in by_texts:
        texts = {"texts": tf.TensorSpec([batch_size], tf.string)}
        probe = {"texts": translator.tokenizer.decode(source)}
        return LiteSignature(by_texts[name], texts, probe, takes_text=True)
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
    rows, limit = batch_size or 2, translator.max_source_length
    special, ordinary = translator.tokenizer.special_ids, translator.tokenizer.ordinary_ids
    source = np.full((rows, limit if batch_size else min(8, limit)), special.pad, np.int32)
    pieces = ordinary[np.linspace(0, len(ordinary) - 1, 7).astype(np.int32)]
    for row in range(rows):
        length = min(1 + (row + 4) % 7, limit - 1)
        source[row, :length] = pieces[:length]
        source[row, length] = special.end
    return tf.constant(source)


def _ids_function(
    translator: "Translator", batch_size: int | None
) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns the translation of ids, with its output's shape fixed if the batch is."""

    def fixed_ids(source: tf.Tensor) -> dict[str, tf.Tensor]:
        found: dict[str, Any] = translator.ids.python_function(source)
        shape = [batch_size, translator.max_target_length]
        ids = tf.concat([found["ids"], tf.fill(shape, translator.model.pad_id)], axis=1)
        fixed = {name: tf.reshape(found[name], shape[:1]) for name in ("score", "truncated")}
        return {"ids": tf.slice(ids, [0, 0], shape), **fixed}

    return translator.ids if batch_size is None else fixed_ids


def signature_checks(translator: "Translator", export: Description) -> list[SignatureCheck]:
    """Returns how an export's signatures are compared with a translator; see `Task`.

    For `score`, each text stands as its own translation.
    """

    def texts(examples: Sequence[str]) -> dict[str, np.ndarray]:
        return {"texts": cut_texts(examples, translator.max_source_length)}

    def pairs(examples: Sequence[str]) -> dict[str, np.ndarray]:
        return {"source": texts(examples)["texts"], "target": texts(examples)["texts"]}

    def ids(examples: Sequence[str]) -> dict[str, np.ndarray]:
        source = translator.to_ids(texts(examples)["texts"]).numpy()
        missing = translator.max_source_length - source.shape[1] if export.batch_size else 0
        pad_id = translator.model.pad_id
        return {"source": np.pad(source, [(0, 0), (0, missing)], constant_values=pad_id)}

    def decoded(outputs: Mapping[str, np.ndarray]) -> list[str]:
        return [
            text.decode() for text in translator.target_tokenizer.decode(outputs["ids"]).numpy()
        ]

    def best(outputs: Mapping[str, np.ndarray]) -> list[str]:
        return [text.decode() for text in outputs["text"].reshape(len(outputs["text"]), -1)[:, 0]]

    checks = [
        SignatureCheck("serving_default", translator.translate_texts, texts, best_texts=best),
        SignatureCheck("beam", translator.beam, texts, best_texts=best, n_best=True),
        SignatureCheck("ids", translator.ids, ids, best_texts=decoded),
        SignatureCheck("score", translator.score, pairs),
    ]
    found = [check for check in checks if check.signature in export.signatures]
    return found[:1] + [
        check._replace(max_examples=_FEW)
        for check in found[1:]
        # The other entries of an n-best list may well differ if the export is inexact.
        if not (check.n_best and export.inexact)
    ]
