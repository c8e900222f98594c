import dataclasses
import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from ktransformer.config import Config, DecodingConfig
from ktransformer.decoding import (
    IMPOSSIBLE,
    MinP,
    Rule,
    SuppressedIds,
    Temperature,
    TopK,
    TopP,
)
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import UNKNOWN_ID, Tokenizer

LINES = ["one two three four", "1 2 3 4", "nine eight seven", "abcdefghijklmnopqrstuvwxyz"]


@dataclasses.dataclass(frozen=True)
class Alternate(Rule):
    """The rule of docs/decoding.md: no two tokens in a row whose ids are both odd or both even."""

    def start(self, rows):
        return {"newest": tf.fill([rows], -1)}

    def apply(self, logits, context, state):
        at = tf.gather(context.ids, tf.maximum(context.index - 1, 0), axis=1)  # [N]
        newest = tf.where(context.index > 0, at, state["newest"])
        same = tf.expand_dims(newest, 1) % 2 == tf.range(logits.shape[-1]) % 2  # [N, V]
        written = tf.expand_dims(newest >= 0, 1)
        return tf.where(same & written, IMPOSSIBLE, logits), {"newest": newest}


@pytest.fixture(scope="module")
def model_and_tokenizer():
    tokenizer = Tokenizer.train(LINES, 45)
    keras.utils.set_random_seed(3)
    model = Transformer(
        tokenizer.vocabulary_size, num_layers=1, d_model=32, num_heads=2, hidden_dim=32
    )
    return model, tokenizer


def make_translator(model_and_tokenizer, *, rules=(), **decoding):
    decoding = {"max_length_ratio": 0, "max_length_offset": 9, **decoding}
    return Translator(*model_and_tokenizer, DecodingConfig(**decoding), rules=rules)


SOURCE = np.array([[7, 8, 9, 3, 0], [20, 21, 3, 0, 0], [5, 6, 30, 31, 3]], np.int32)


def written(ids):
    return [row[: row.tolist().index(3)].tolist() for row in np.asarray(ids)]


def test_the_rule_of_the_documentation_is_the_one_tested_here():
    page = Path(__file__).parents[2].joinpath("docs/decoding.md").read_text()
    methods = inspect.getsource(Alternate).split("def start", 1)[1]
    assert methods in page


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_users_own_rule_holds_in_every_translation(model_and_tokenizer, beam_size):
    translator = make_translator(
        model_and_tokenizer, beam_size=beam_size, min_length=5, rules=[Alternate()]
    )
    found = written(translator.ids(SOURCE)["ids"])
    assert min(map(len, found)) >= 4
    for ids in found:
        assert (np.diff(ids) % 2 == 1).all()


@pytest.mark.long
def test_a_users_own_rule_and_all_others_are_in_the_exports(model_and_tokenizer, tmp_path):
    translator = make_translator(
        model_and_tokenizer,
        beam_size=3,
        min_length=4,
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        coverage_penalty=10.0,
        rules=[Alternate(), SuppressedIds([11]), Temperature(0.8), TopK(9), TopP(0.99), MinP(0.01)],
    )
    source = np.zeros((3, 16), np.int32)
    source[0], source[1:, :5] = [*range(5, 20), 3], SOURCE[1:]
    expected = translator.ids(source)
    # Nine tokens give 16 positions a mean of 9/16 at most, and the logarithm is concave.
    assert expected["score"][0] < 10 * 16 * np.log(9 / 16)
    lite = export_lite(translator, tmp_path / "rules.tflite", signatures=["ids"])
    saved = export_saved_model(
        translator, tmp_path / "saved", signatures=["serving_default", "ids"]
    )
    signatures = {
        "lite": Interpreter(model_path=str(lite)).get_signature_runner("ids"),
        "saved": tf.saved_model.load(str(saved)).signatures["ids"],
    }
    for run in signatures.values():
        found = run(source=source)
        assert written(found["ids"]) == written(expected["ids"])
        np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-4)


def test_the_settings_of_a_run_are_rules_of_its_translator(model_and_tokenizer):
    settings = {"min_length": "6", "repetition_penalty": "1.5", "no_repeat_ngram_size": "1"}
    decoding = Config().replace({**settings, "max_length_offset": 9}).decoding
    found = written(Translator(*model_and_tokenizer, decoding).ids(SOURCE)["ids"])
    assert min(map(len, found)) >= 5
    assert all(len(set(ids)) == len(ids) for ids in found)


def test_a_sample_keeps_to_the_rules(model_and_tokenizer):
    last = model_and_tokenizer[1].vocabulary_size - 1
    translator = make_translator(model_and_tokenizer, rules=[SuppressedIds(range(4, last))])
    drawn = translator.sample(["one two"] * 20, seed=1, temperature=9.0)["text"].numpy()
    (piece,) = translator.tokenizer.decode(tf.constant([[last, 3]])).numpy()
    assert {text.decode() for text in drawn} <= {piece.decode() * n for n in range(10)}
    assert len({*drawn}) > 1


@pytest.mark.parametrize(("beam_size", "suppress_unknown"), [(1, True), (3, False)])
def test_the_unknown_piece_is_written_where_it_is_allowed(beam_size, suppress_unknown):
    tokenizer = Tokenizer.train(LINES, 45)
    sizes = {"num_layers": 1, "d_model": 32, "num_heads": 2, "hidden_dim": 32}
    model = Transformer(tokenizer.vocabulary_size, output_bias=True, **sizes)
    model.build()
    model.output_bias_weight.assign(100.0 * (np.arange(tokenizer.vocabulary_size) == UNKNOWN_ID))
    settings = {"beam_size": beam_size, "suppress_unknown": suppress_unknown}
    translator = make_translator((model, tokenizer), **settings)
    assert (UNKNOWN_ID in translator.ids(SOURCE)["ids"].numpy()) != suppress_unknown
    suppressed = translator.describe(()).special_ids["suppressed"]
    assert (UNKNOWN_ID in suppressed) == suppress_unknown
    drawn = translator.sample(["one two"], seed=1)["text"].numpy()[0]
    assert ("\N{DOUBLE QUESTION MARK}".encode() in drawn) != suppress_unknown


@pytest.mark.parametrize("name", ["early_stopping", "score_forced_end", "suppress_unknown"])
def test_a_switch_that_is_neither_true_nor_false_is_an_error_that_names_it(name):
    with pytest.raises(InputError, match=rf"{name}.*True, False.*never"):
        DecodingConfig(**{name: "never"})


def test_settings_of_an_old_run_have_no_new_rules():
    old = {"beam_size": 4, "length_penalty": 1.0, "max_length_ratio": 2.0}
    assert DecodingConfig(**old) == DecodingConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_length", 0),
        ("repetition_penalty", 0),
        ("no_repeat_ngram_size", -1),
        ("max_repeats", -1),
        ("coverage_penalty", -0.1),
    ],
)
def test_a_setting_out_of_range_is_an_error_that_names_it(name, value):
    with pytest.raises(InputError, match=rf"{name}.*{value}"):
        DecodingConfig(**{name: value})
