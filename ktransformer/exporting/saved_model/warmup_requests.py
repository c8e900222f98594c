"""Requests that a server runs before the first of its users: TensorFlow Serving's warm-up file.

TensorFlow Serving reads `assets.extra/tf_serving_warmup_requests` beside a SavedModel when it
loads it, and runs them. The file is a TFRecord of `PredictionLog` messages. Their Python
classes are in a package that nothing else here needs, so the few fields used are described below,
with their numbers in TensorFlow Serving's `prediction_log.proto`, `predict.proto` and
`model.proto`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from ktransformer.config import CompilationConfig
from ktransformer.exporting.saved_model.batching import is_texts
from ktransformer.tasks.inputs import UNBATCHED
from ktransformer.tasks.written_texts import spread_ids
from ktransformer.text import BaseTokenizer

_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
_BATCH_SIZES, _LENGTHS = (1, 4, 16), (5, 20)


# The fields in use of three files of TensorFlow Serving, as a schema of protobuf. The names of
# messages are not written, so they have a package of ours and do not collide with the real ones.
_SCHEMA = """
name: "ktransformer/warmup.proto"
package: "ktransformer.warmup"
syntax: "proto3"
dependency: "tensorflow/core/framework/tensor.proto"
message_type {
  name: "ModelSpec"
  field { name: "signature_name" number: 3 label: LABEL_OPTIONAL type: TYPE_STRING }
}
message_type {
  name: "PredictRequest"
  nested_type {
    name: "InputsEntry"
    options { map_entry: true }
    field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
    field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE
            type_name: ".tensorflow.TensorProto" }
  }
  field { name: "model_spec" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE
          type_name: ".ktransformer.warmup.ModelSpec" }
  field { name: "inputs" number: 2 label: LABEL_REPEATED type: TYPE_MESSAGE
          type_name: ".ktransformer.warmup.PredictRequest.InputsEntry" }
}
message_type {
  name: "PredictLog"
  field { name: "request" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE
          type_name: ".ktransformer.warmup.PredictRequest" }
}
message_type {
  name: "PredictionLog"
  field { name: "predict_log" number: 6 label: LABEL_OPTIONAL type: TYPE_MESSAGE
          type_name: ".ktransformer.warmup.PredictLog" }
}
"""


def _message_class(name: str) -> Any:
    """Returns the class of one of the messages that `_SCHEMA` describes."""
    file = text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))


_PREDICTION_LOG = _message_class("PredictionLog")


class Request(NamedTuple):
    """A call of a signature.

    Attributes:
        signature: Its name.
        inputs: Its inputs, by name.
    """

    signature: str
    inputs: dict[str, np.ndarray]


def warmup_requests(signatures: Mapping[str, Any], tokenizer: BaseTokenizer) -> list[Request]:
    """Makes requests of 1, 4 and 16 texts of about 5 and 20 tokens.

    Args:
        signatures: `tf.function`s with an input signature, by name. Requests are made of those
            that take texts `[B]` and, beside them, nothing but scalars, which are 1; not of those
            with inputs of another number than B.
        tokenizer: Makes the texts, of pieces from all over the vocabulary.

    Returns:
        The requests, the smallest first.
    """
    texts = [_text(tokenizer, length) for length in _LENGTHS]
    return _make_requests(signatures, texts, _BATCH_SIZES)


def compiled_requests(
    signatures: Mapping[str, Any], tokenizer: BaseTokenizer, compilation: CompilationConfig
) -> list[Request]:
    """Makes a request of each shape in which XLA compiles the signatures; see `warmup_requests`."""
    texts = []
    for shorter, length in itertools.pairwise((0, *compilation.lengths)):
        several = [_text(tokenizer, count) for count in range(length, 0, -1)]
        counts = tokenizer.encode(tf.constant(several)).row_lengths().numpy()
        # One token less than there is room for, because a tag or a language may come first.
        fitting = [i for i, count in enumerate(counts) if shorter < count < max(length, 2)]
        texts += [several[i] for i in fitting[:1]]
    return _make_requests(signatures, texts, compilation.request_sizes)


def _make_requests(
    signatures: Mapping[str, Any], texts: Sequence[bytes], batch_sizes: Sequence[int]
) -> list[Request]:
    requests = []
    for text in texts:
        for size in batch_sizes:
            batch = np.array([text] * size, dtype=object)
            for name, function in signatures.items():
                specs = function.input_signature
                if any(spec.name in UNBATCHED for spec in specs):
                    continue
                if all(is_texts(spec) or _is_number(spec) for spec in specs):
                    inputs = {spec.name: _input(spec, batch) for spec in specs}
                    requests.append(Request(name, inputs))
    return requests


def _is_number(spec: tf.TensorSpec) -> bool:
    return bool(spec.shape.rank == 0 and spec.dtype != tf.string)


def _input(spec: tf.TensorSpec, texts: np.ndarray) -> np.ndarray:
    return texts if is_texts(spec) else np.ones([], spec.dtype.as_numpy_dtype)


def _text(tokenizer: BaseTokenizer, length: int) -> bytes:
    """Makes a text of about `length` tokens, the end token included; no mask among them."""
    ids = spread_ids(tokenizer, length - 1)
    text: bytes = tokenizer.decode(tf.constant(ids[None])).numpy()[0]
    return text


def write_warmup(requests: list[Request], folder: Path) -> None:
    """Writes requests where TensorFlow Serving looks for them in a SavedModel's folder."""
    path = folder / _FILE
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            log = _PREDICTION_LOG()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, values in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
            writer.write(log.SerializeToString(deterministic=True))


def read_warmup(folder: Path) -> Iterator[Request]:
    """Yields the requests in a SavedModel's folder; none where it has no such file."""
    if not (folder / _FILE).is_file():
        return
    for record in tf.data.TFRecordDataset(str(folder / _FILE)).as_numpy_iterator():
        request = _PREDICTION_LOG.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(values) for name, values in request.inputs.items()}
        yield Request(request.model_spec.signature_name, inputs)
