"""A kind of model that the package does not know: one class, saved, opened and exported."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import ktransformer
from ktransformer import tasks
from ktransformer.engines import open_model
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.exporting.saved_model.warmup_requests import read_warmup
from ktransformer.tasks.graph_function import graph_method
from ktransformer.text import PAD_ID, Tokenizer
from ktransformer.verification import verify
from tests.small_run import number_pairs


@keras.saving.register_keras_serializable(package="tests")
class Weigher(keras.Model):
    """Gives every id a weight."""

    def __init__(self, vocabulary_size, **options):
        super().__init__(**options)
        self.vocabulary_size = vocabulary_size
        self.table = keras.layers.Embedding(vocabulary_size, 1)

    def build(self, input_shape=None):
        self.table.build(input_shape)
        self.built = True

    def call(self, ids):
        return self.table(ids)[..., 0]

    def get_config(self):
        return {**super().get_config(), "vocabulary_size": self.vocabulary_size}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EchoDescription(tasks.Description):
    kind: str = "echo"
    max_length: int
    limits: tuple[float, ...]


@tasks.register_task
class Echo(tasks.Task):
    """Gives a text back with its weight: the sum of its ids', times a temperature, plus a seed."""

    description_class = EchoDescription
    kind = "echo"
    model_class = Weigher
    LITE_SIGNATURES = ("serving_default",)
    FILES = ("tokenizer.model", "limits.json")
    SETTINGS = ("max_length",)
    RANKED_BY = {"text": "score"}  # noqa: RUF012

    def __init__(self, model, tokenizer, limits, max_length=8):
        super().__init__(model, tokenizer, name="echo")
        self.limits, self.max_length = tuple(limits), max_length

    @graph_method(
        input_signature=[
            tf.TensorSpec([None], tf.string, "prompts"),
            tf.TensorSpec([], tf.int32, "seed"),
            tf.TensorSpec([], tf.float32, "temperature"),
        ]
    )
    def echo(self, prompts, seed, temperature):
        ids, _ = self.tokenizer.encode_dense(prompts, self.max_length)
        weights = tf.where(ids == PAD_ID, 0.0, self.model(ids, training=False))
        total = tf.reduce_sum(weights, axis=1) * temperature + tf.cast(seed, tf.float32)
        score = tf.clip_by_value(total, *self.limits)
        return {"text": self.tokenizer.decode(ids), "score": score}

    def saved_model_signatures(self):
        return {"serving_default": self.echo}

    def lite_signature(self, name, batch_size):
        inputs = {spec.name: spec for spec in self.echo.input_signature}
        inputs["prompts"] = tf.TensorSpec([batch_size], tf.string)
        probe = {
            "prompts": tf.constant(["one two"] * (batch_size or 2)),
            "seed": tf.constant(3),
            "temperature": tf.constant(0.5),
        }
        return tasks.LiteSignature(self.echo, inputs, probe, takes_text=True)

    def describe(self, signatures, **others):
        return EchoDescription(
            signatures=tuple(signatures), max_length=self.max_length, limits=self.limits, **others
        )

    def with_model(self, model):
        return type(self)(model, self.tokenizer, self.limits, self.max_length)

    @property
    def settings(self):
        return {"max_length": self.max_length}

    def with_settings(self, **settings):
        return type(self)(self.model, self.tokenizer, self.limits, **{**self.settings, **settings})

    def write_files(self, folder):
        self.tokenizer.save(folder / "tokenizer.model")
        (folder / "limits.json").write_text(json.dumps(self.limits))

    @classmethod
    def from_folder(cls, model, folder, config):
        limits = json.loads((folder / "limits.json").read_text())
        return cls(model, Tokenizer.load(folder / "tokenizer.model"), limits, **config)

    @classmethod
    def read_examples(cls, path):
        return path.read_text().splitlines()

    def signature_checks(self, export, form):
        def prepare(examples):
            return {**INPUTS, "prompts": np.array([text.encode() for text in examples], object)}

        return [tasks.SignatureCheck("serving_default", self.echo, prepare)]


INPUTS = {
    "prompts": np.array([b"one two", b"nine", b""], object),
    "seed": np.array(4, np.int32),
    "temperature": np.array(2.0, np.float32),
}


@pytest.fixture(scope="module")
def echo():
    tokenizer = Tokenizer.train([source for source, _ in number_pairs(300, seed=1)], 40)
    model = Weigher(tokenizer.vocabulary_size)
    model.build((None, None))
    return Echo(model, tokenizer, (-50, 50.5), max_length=5)


@pytest.fixture(scope="module")
def outputs(echo):
    return {name: tensor.numpy() for name, tensor in echo.echo(*INPUTS.values()).items()}


def test_a_kind_of_ones_own_is_saved_and_opened_with_its_files_and_settings(
    echo, outputs, tmp_path
):
    tasks.save(echo, tmp_path / "echo", history={"loss": [1.0]})
    opened = ktransformer.load(tmp_path / "echo")
    assert (type(opened), opened.limits, opened.max_length) == (Echo, (-50, 50.5), 5)
    np.testing.assert_array_equal(opened.echo(*INPUTS.values())["score"], outputs["score"])
    assert ktransformer.load(tmp_path / "echo", max_length=3).max_length == 3
    with pytest.raises(InputError, match=r"echo.*beam_size"):
        ktransformer.load(tmp_path / "echo", beam_size=3)
    (tmp_path / "echo" / "limits.json").write_text("[0, 1]")
    with pytest.raises(InputError, match=r"limits\.json"):
        ktransformer.load(tmp_path / "echo")


@pytest.mark.parametrize("form", ["SavedModel", "tflite", "run"])
def test_a_kind_of_ones_own_runs_in_every_form_with_its_scalars(form, echo, outputs, tmp_path):
    if form == "SavedModel":
        path = export_saved_model(echo, tmp_path / "model")
        assert {"prompts", "seed", "temperature"} == set(next(read_warmup(path)).inputs)
    elif form == "tflite":
        path = export_lite(echo, tmp_path / "model.tflite", quantization="none")
    else:
        path = tmp_path / "run"
        tasks.save(echo, path)
    model = open_model(path)
    model.warmup()
    assert (model.kind, model.description.kind, model.description.limits) == (
        form,
        "echo",
        (-50, 50.5),
    )
    found = model.run("serving_default", **INPUTS)
    assert found["text"].tolist() == outputs["text"].tolist()
    np.testing.assert_allclose(found["score"], outputs["score"], atol=1e-5)


def test_a_kind_of_ones_own_is_verified(echo, tmp_path):
    tasks.save(echo, tmp_path / "echo")
    exports = [export_lite(echo, tmp_path / "m.tflite", batch_size=2)]
    exports.append(export_saved_model(echo, tmp_path / "model"))
    (tmp_path / "texts").write_text("one two\nnine\nfour\n")
    report = verify(exports, tmp_path / "echo", tmp_path / "texts", batch_size=3)
    assert report.broken == ()
    assert [result.identical for result in report.results] == [1, 1, 1]
    table = echo.model.table.embeddings
    changed = echo.with_model(Weigher.from_config(echo.model.get_config()))
    changed.model.build((None, None))
    changed.model.table.embeddings.assign(table + 0.01)
    tasks.save(changed, tmp_path / "changed")
    (broken, _) = verify(exports, tmp_path / "changed", tmp_path / "texts").broken
    assert "m.tflite, serving_default: numbers differ" in broken


def test_a_kind_that_is_not_registered_is_named(echo, tmp_path):
    tasks.save(echo, tmp_path / "echo")
    path = tmp_path / "echo" / "model.json"
    path.write_text(path.read_text().replace('"echo"', '"other"'))
    with pytest.raises(InputError, match=r"an other.*register.*echo"):
        ktransformer.load(tmp_path / "echo", check=False)


def test_a_kind_has_one_class():
    with pytest.raises(ValueError, match="kind='translator'"):
        tasks.register_task(type("Another", (Echo,), {"kind": "translator"}))
