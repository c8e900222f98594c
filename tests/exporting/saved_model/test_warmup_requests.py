"""Requests that are run before the first user's, and what runs them."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.engines import LiteEngine, ModelEngine, SavedModelEngine
from ktransformer.exporting import SavedModel, export_lite, export_saved_model
from ktransformer.exporting.lite.model import LiteModel
from ktransformer.exporting.saved_model.warmup_requests import read_warmup
from tests.small_models import small_classifier

# Reads the file by the rules of the wire format alone, and runs its requests as a server does:
# with tensorflow and tensorflow_text, without the code that wrote it.
SERVER = """
import json, sys
import tensorflow as tf, tensorflow_text
from tensorflow.core.framework.tensor_pb2 import TensorProto

def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at

def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        assert key & 7 == 2  # Length-delimited: nothing else is in these messages.
        length, at = varint(data, at)
        yield key >> 3, data[at : at + length]
        at += length

def only(data, number):
    (value,) = [value for key, value in fields(data) if key == number]
    return value

folder = sys.argv[1]
signatures = tf.saved_model.load(folder).signatures
found = []
path = folder + "/assets.extra/tf_serving_warmup_requests"
for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
    request = only(only(record, 6), 1)  # PredictionLog.predict_log, PredictLog.request
    name = only(only(request, 1), 3).decode()  # PredictRequest.model_spec, .signature_name
    entries = [dict(fields(value)) for key, value in fields(request) if key == 2]  # .inputs
    inputs = {e[1].decode(): tf.make_ndarray(TensorProto.FromString(e[2])) for e in entries}
    outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
    texts = [values for values in inputs.values() if values.ndim]
    rows = len(outputs["row_splits"]) - 1 if "row_splits" in outputs else len(outputs["truncated"])
    sizes = {rows, *map(len, texts)}
    assert len(sizes) == 1
    found.append([name, sizes.pop(), max(len(t) for v in texts for t in v)])
assert not any(name.split(".")[0] == "ktransformer" for name in sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def served(saved_model) -> list:
    """The signature, the number of texts and the longest of them in bytes, of every request."""
    result = subprocess.run(
        [sys.executable, "-c", SERVER, str(saved_model)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.long
def test_a_server_can_run_every_request_of_the_export(saved_model, served):
    assert [name for name, _, _ in served] == [each.signature for each in read_warmup(saved_model)]
    names = {"serving_default", "beam", "score", "annotate", "document", "sentences"}
    assert {name for name, _, _ in served} == names
    for wanted in ("serving_default", "beam"):
        shapes = {(size, length) for name, size, length in served if name == wanted}
        assert {size for size, _ in shapes} == {1, 4, 16}
        assert len({length for _, length in shapes}) == 2
    assert len(served) <= 1000  # TensorFlow Serving takes no more.


def test_the_requests_are_of_the_stated_lengths(saved_model, translator):
    texts = {
        request.inputs["texts"][0]
        for request in read_warmup(saved_model)
        if "texts" in request.inputs
    }
    lengths = [len(ids) for ids in translator.tokenizer.encode(tf.constant(sorted(texts)))]
    assert sorted(lengths) == pytest.approx([5, 20], abs=2)


def count_runs(model, monkeypatch) -> list[str]:
    """Notes the signatures that a model runs from now on."""
    ran = []
    run = model.run
    monkeypatch.setattr(
        model, "run", lambda name, **inputs: ran.append(name) or run(name, **inputs)
    )
    return ran


def test_warming_a_saved_model_up_runs_all_its_requests(saved_model, monkeypatch):
    engine = SavedModelEngine(saved_model)
    ran = count_runs(engine._model, monkeypatch)
    engine.warmup()
    assert ran == [request.signature for request in read_warmup(saved_model)]


def count_runs_of_replicas(model) -> list[tuple[int, str]]:
    """Notes each replica's number and the signatures that it runs from now on."""
    ran = []

    class Spy:
        def __init__(self, replica, name, runner):
            self.names, self.runner = (replica, name), runner

        def get_input_details(self):
            return self.runner.get_input_details()

        def __call__(self, **inputs):
            ran.append(self.names)
            return self.runner(**inputs)

    for i, replica in enumerate(model._replicas):
        runners = replica.open()
        for name, runner in runners.items():
            runners[name] = Spy(i, name, runner)
    return ran


def test_warming_a_tflite_up_runs_all_that_one_input_runs_in_each_replica(lite_file):
    model = LiteModel(lite_file, replicas=2)
    ran = count_runs_of_replicas(model)
    model.warmup()
    names = ["serving_default", "beam", "ids", "encode", "document", "sentences"]
    assert ran == [(i, name) for i in range(2) for name in names]


def test_warming_a_translator_up_runs_what_takes_texts_in_each_replica(lite_file):
    engine = LiteEngine(lite_file, replicas=2)
    ran = count_runs_of_replicas(engine._model)
    engine.warmup()
    names = ["serving_default", "beam", "document"]
    assert ran == [(i, name) for i in range(2) for name in names]


@pytest.mark.long
def test_warming_up_a_translator_of_ids_runs_them_in_each_replica(translator, tmp_path):
    file = export_lite(translator, tmp_path / "ids.tflite", signatures=["ids", "encode"])
    engine = LiteEngine(file, replicas=2)
    ran = count_runs_of_replicas(engine._model)
    engine.warmup()
    assert set(ran) == {(0, "ids"), (1, "ids")}


@pytest.mark.parametrize("kind", ["run", "tflite"])
def test_a_warm_engine_translates_as_a_cold_one(kind, translator, lite_file):
    engine = ModelEngine(translator) if kind == "run" else LiteEngine(lite_file)
    engine.warmup()
    assert engine.translate(["four zero two"]) == ["402"]


def test_a_warmed_signature_answers_its_first_request_at_once(saved_model):
    texts = np.array([b"four zero two"], dtype=object)

    def first_and_second(model: SavedModel) -> tuple[float, float]:
        times = []
        for _ in range(2):
            start = tf.timestamp()
            model.run("serving_default", texts=texts)
            times.append(float(tf.timestamp() - start))
        return times[0], times[1]

    cold, warm = SavedModel(saved_model), SavedModel(saved_model)
    warm.warmup()
    first, second = first_and_second(cold)
    assert first > 3 * second  # There is something to warm up.
    assert first_and_second(warm)[0] < first / 2


def test_an_export_without_requests_warms_up_to_nothing(saved_model, tmp_path):
    folder = shutil.copytree(saved_model, tmp_path / "old")
    shutil.rmtree(folder / "assets.extra")
    SavedModel(folder, check=False).warmup()
    folder = export_saved_model(small_classifier(), tmp_path / "images")
    assert not (folder / "assets.extra").exists()
