import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.serving import Translator, export_saved_model, translate_lines
from ktransformer.text import Tokenizer
from tests.test_subclassing import SwiGLUTransformer

TEXTS = ["four zero two", "", "nine", "one " * 60, "   ", "qqq é two", "seven seven seven one six"]

# Runs with tensorflow and tensorflow_text alone: what a server has.
CLIENT = """
import json, sys
import tensorflow as tf, tensorflow_text
folder, texts = sys.argv[1], json.loads(sys.argv[2])
signatures = tf.saved_model.load(folder).signatures
default = signatures["serving_default"](tf.constant(texts, tf.string))
beam = signatures["beam"](tf.constant(texts, tf.string))
score = signatures["score"](source=tf.constant(texts, tf.string), target=default["text"])
assert not any(name.split(".")[0] == "ktransformer" for name in sys.modules)
print(json.dumps({
    "text": [t.decode() for t in default["text"].numpy()],
    "score": default["score"].numpy().tolist(),
    "beam": [[t.decode() for t in row] for row in beam["text"].numpy()],
    "beam_score": beam["score"].numpy().tolist(),
    "log_probability": score["log_probability"].numpy().tolist(),
    "tokens": score["tokens"].numpy().tolist(),
}))
"""


def in_a_fresh_process(folder, texts: list[str]) -> dict:
    result = subprocess.run(
        [sys.executable, "-c", CLIENT, str(folder), json.dumps(texts)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def served(saved_model) -> dict:
    return in_a_fresh_process(saved_model, TEXTS)


def strings(tensor: tf.Tensor) -> list:
    return np.char.decode(tensor.numpy().astype("S"), "utf-8").tolist()


def test_the_saved_model_gives_what_the_keras_model_gives(served, translator):
    expected = translator.translate(tf.constant(TEXTS))
    assert served["text"] == strings(expected["text"])
    np.testing.assert_allclose(served["score"], expected["score"], atol=1e-5)
    assert served["text"][0] == "402"


def test_the_beam_signature_gives_the_n_best(served, translator):
    expected = translator.beam(tf.constant(TEXTS))
    assert served["beam"] == strings(expected["text"])
    assert np.shape(served["beam"]) == (len(TEXTS), 3)
    assert all(row == sorted(row, reverse=True) for row in served["beam_score"])


def test_the_score_of_a_translation_is_the_score_that_the_search_gave(served):
    # The search's score is log-probability / length ** 1. A text that was cut at the limit need
    # not come back as the same tokens, so only translations of whole texts are compared.
    for i in (0, 2, 6):
        ratio = served["log_probability"][i] / served["tokens"][i]
        assert ratio == pytest.approx(served["score"][i], abs=1e-4)


def test_empty_texts_give_empty_texts(served):
    assert (served["text"][1], served["text"][4]) == ("", "")
    assert (served["score"][1], served["score"][4]) == (0.0, 0.0)


def test_an_empty_batch_gives_an_empty_batch(saved_model):
    assert in_a_fresh_process(saved_model, [])["text"] == []


def test_a_batch_gives_what_its_texts_give_one_by_one(translator):
    together = strings(translator.translate(tf.constant(TEXTS))["text"])
    alone = [strings(translator.translate(tf.constant([text]))["text"])[0] for text in TEXTS]
    assert together == alone


def test_the_ids_signature_agrees_with_the_text_signature(saved_model, translator):
    signature = tf.saved_model.load(str(saved_model)).signatures["ids"]
    ids = signature(translator.encode(tf.constant(TEXTS)))["ids"]
    texts = translator.tokenizer.decode(ids)
    assert strings(texts) == strings(translator.translate(tf.constant(TEXTS))["text"])


def test_ids_over_the_limit_are_cut_as_texts_are(translator):
    (whole,) = translator.tokenizer.encode_lines(["one " * 60])
    assert len(whole) > translator.model.max_length
    ids = translator.ids(tf.constant([whole]))["ids"]
    text = translator.translate(tf.constant(["one " * 60]))["text"]
    assert strings(translator.tokenizer.decode(ids)) == strings(text)


def test_lines_come_back_in_order_whatever_the_batches(translator):
    expected = [[text] for text in strings(translator.translate(tf.constant(TEXTS))["text"])]
    assert translate_lines(translator, TEXTS, batch_size=2) == expected
    assert translate_lines(translator, []) == []


def test_a_text_over_the_limit_is_cut_there(translator):
    limit = translator.model.max_length
    ids = translator.encode(tf.constant(["one " * 60]))
    assert ids.shape == (1, limit)
    assert ids[0, -1] == 3
    assert translator.count_tokens(tf.constant(["one " * 60]))[0] > limit


def test_a_beam_of_one_is_greedy(translator):
    greedy = Translator(
        translator.model,
        translator.tokenizer,
        dataclasses.replace(translator.decoding, beam_size=1),
    )
    texts = tf.constant(TEXTS)
    np.testing.assert_array_equal(greedy.translate(texts)["text"], greedy.beam(texts)["text"][:, 0])


def test_sampling_is_repeatable_and_depends_on_the_seed(translator):
    texts = tf.constant(["four zero two"] * 16)

    def draw(seed: int) -> list:
        return strings(translator.sample(texts, seed=seed, temperature=3.0)["text"])

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_subclass_of_the_model_exports(tmp_path):
    tokenizer = Tokenizer.train(["one two three", "1 2 3"], 30)
    model = SwiGLUTransformer(
        tokenizer.vocabulary_size, num_layers=1, d_model=16, num_heads=2, hidden_dim=16
    )
    model.build()
    translator = Translator(model, tokenizer)
    folder = export_saved_model(translator, tmp_path / "model")
    texts = ["one two", "three"]
    expected = strings(translator.translate(tf.constant(texts))["text"])
    assert in_a_fresh_process(folder, texts)["text"] == expected
