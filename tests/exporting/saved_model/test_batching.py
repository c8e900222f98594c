"""Concurrent requests that a graph joins."""

import threading

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.config import BatchingConfig
from ktransformer.engines import SavedModelEngine
from ktransformer.errors import InputError
from ktransformer.exporting import SavedModel, export_saved_model
from ktransformer.exporting.saved_model.batching import join_requests
from ktransformer.exporting.saved_model.warmup_requests import read_warmup
from tests.small_models import small_classifier, small_filler
from tests.small_run import number_pairs
from tests.small_translator import TEXTS, strings

_SPEC = [tf.TensorSpec([None], tf.string, "texts")]


@tf.function(input_signature=_SPEC)
def shout(texts: tf.Tensor) -> dict[str, tf.Tensor]:
    """Says of each text how many are in its batch: the batches can be counted by it."""
    return {"text": tf.strings.upper(texts), "size": tf.fill(tf.shape(texts), tf.size(texts))}


@tf.function(input_signature=_SPEC)
def whisper(texts: tf.Tensor) -> dict[str, tf.Tensor]:
    return {"text": tf.strings.lower(texts), "size": tf.fill(tf.shape(texts), tf.size(texts))}


def at_once(calls: list) -> list:
    """Makes every call in a thread of its own; returns what they gave, in order."""
    results = [None] * len(calls)
    ready = threading.Barrier(len(calls))

    def run(place: int) -> None:
        ready.wait()
        results[place] = calls[place]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture(scope="module")
def joined_export(translator, tmp_path_factory):
    batching = BatchingConfig(max_texts=8, timeout_ms=20)
    return export_saved_model(translator, tmp_path_factory.mktemp("joined"), batching=batching)


def test_fewer_batches_are_run_than_calls_are_made():
    joined = join_requests(shout, BatchingConfig(max_texts=8, timeout_ms=100))
    joined(tf.constant(["traced"]))
    texts = [f"text {i}" for i in range(16)]
    results = at_once([lambda text=text: joined(tf.constant([text])) for text in texts])
    assert [result["text"].numpy()[0].decode() for result in results] == [t.upper() for t in texts]
    sizes = [int(result["size"][0]) for result in results]
    assert max(sizes) <= 8
    assert sum(1 / size for size in sizes) <= 8  # The number of batches.


def test_signatures_do_not_answer_for_each_other():
    batching = BatchingConfig(max_texts=8, timeout_ms=20)
    loud, quiet = join_requests(shout, batching), join_requests(whisper, batching)
    functions = [loud, quiet] * 8
    for function in functions[:2]:
        function(tf.constant(["Traced"]))
    calls = [lambda function=each: function(tf.constant(["Text"])) for each in functions]
    answers = [result["text"].numpy()[0] for result in at_once(calls)]
    assert answers == [b"TEXT", b"text"] * 8


def test_a_request_larger_than_a_batch_comes_back_whole():
    joined = join_requests(shout, BatchingConfig(max_texts=4))
    result = joined(tf.constant([str(i) for i in range(11)]))
    assert strings(result["text"]) == [str(i) for i in range(11)]
    assert int(tf.reduce_max(result["size"])) == 4
    assert joined(tf.constant([], tf.string))["text"].shape == (0,)


@pytest.mark.long
def test_concurrent_callers_get_their_own_translations(joined_export, translator):
    model = SavedModel(joined_export)
    texts = sorted({source for source, _ in number_pairs(20, seed=5)})[:12]
    expected = translator.translate_texts(tf.constant(texts))
    names = ["serving_default", "beam"]
    runs = [
        lambda text=text, name=name: model.run(name, texts=np.array([text.encode()], object))
        for text in texts
        for name in names
    ]
    results = at_once(runs)
    alone, best = results[::2], results[1::2]
    assert [r["text"][0].decode() for r in alone] == strings(expected["text"])
    assert [r["text"][0, 0].decode() for r in best] == strings(expected["text"])
    np.testing.assert_allclose([r["score"][0] for r in alone], expected["score"], atol=1e-5)


def test_one_caller_gets_what_the_model_gives(joined_export, translator):
    engine = SavedModelEngine(joined_export)
    assert engine.translate(TEXTS) == strings(
        translator.translate_texts(tf.constant(TEXTS))["text"]
    )
    assert engine.translate([]) == []


def test_the_export_says_that_it_joins_requests(joined_export, saved_model):
    about = SavedModel(joined_export).description
    assert about.batching == BatchingConfig(max_texts=8, timeout_ms=20)
    assert SavedModel(saved_model).description.batching is None


def test_the_outputs_keep_their_shapes(joined_export):
    signatures = tf.saved_model.load(str(joined_export)).signatures
    assert signatures["serving_default"].structured_outputs["text"].shape.as_list() == [None]
    assert signatures["beam"].structured_outputs["score"].shape.as_list() == [None, 3]


@pytest.mark.long
def test_a_masked_language_model_joins_requests_and_has_some_to_warm_up(tmp_path):
    filler = small_filler()
    model = SavedModel(export_saved_model(filler, tmp_path / "lm", batching=BatchingConfig()))
    text = "one <mask> three"
    outputs = model.run("serving_default", texts=np.array([text.encode()], dtype=object))
    assert [t.decode() for t in outputs["text"][0]] == [fill.text for fill in filler.fill(text)]
    requests = read_warmup(model.path)
    assert {name for name, _ in requests} == {"serving_default", "embed", "score"}


def test_requests_of_images_are_not_joined(tmp_path):
    with pytest.raises(InputError, match=r"texts.*image class"):
        export_saved_model(small_classifier(), tmp_path / "m", batching=BatchingConfig())
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "values", [{"max_texts": 0}, {"max_texts": 1025}, {"timeout_ms": float("nan")}, {"threads": 0}]
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        BatchingConfig(**values)


def test_an_empty_request_gives_empty_outputs_in_every_signature(joined_export):
    model = SavedModel(joined_export)
    assert model.run("serving_default", texts=[])["text"].shape == (0,)
    assert model.run("beam", texts=[])["text"].shape == (0, 3)
    assert model.run("beam", texts=[])["score"].shape == (0, 3)
    assert model.run("score", source=[], target=[])["log_probability"].shape == (0,)
