"""Spans that a translator copies, through all engines, and the training with their symbols."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.config import CHOICES, DecodingConfig
from ktransformer.engines import ModelEngine, load_engine
from ktransformer.errors import InputError
from ktransformer.fitting.extending import extend_vocabulary
from ktransformer.saving.run import load_run
from ktransformer.tasks import Translator
from ktransformer.tasks.span_copier import use_symbols
from ktransformer.text import Tokenizer
from ktransformer.text.buckets import JoinedIds
from ktransformer.text.span_symbols import SYMBOLS
from ktransformer.text.spans import KINDS
from ktransformer.text.symbol_inserter import SymbolInserter
from tests.small_run import number_pairs
from tests.small_translator import strings, with_decoding

TEXTS = ["four <b>zero</b> two", "{x} 👍 nine", "", "qqq one é", "two"]


def test_the_kinds_of_the_configuration_are_those_of_the_finder():
    assert CHOICES["copy"] == KINDS


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"copy.*tags.*'tag'"):
        DecodingConfig(copy=("tag",))


@pytest.fixture(scope="module")
def copying(translator):
    return with_decoding(translator, copy=("tags", "placeholders", "unknown"))


def test_a_model_without_symbols_keeps_every_span(copying, translator):
    found = strings(copying.translate_texts(tf.constant(TEXTS))["text"])
    plain = strings(
        translator.translate_texts(tf.constant(["four zero two", "nine", "one"]))["text"]
    )
    assert plain == ["402", "9", "1"]
    for text, spans in zip(found, ("<b> </b>", "{x} 👍", "", "qqq é", ""), strict=True):
        assert [text.count(span) for span in spans.split()] == [1] * len(spans.split())


@pytest.mark.long
def test_every_hypothesis_and_sample_keeps_the_spans(copying):
    beam = strings(copying.beam(tf.constant(TEXTS))["text"])
    assert all(text.count("<b>") == 1 for text in beam[0])
    assert all(text.count("👍") == 1 for text in strings(copying.sample(TEXTS[1:2] * 3)["text"]))


@pytest.mark.long
def test_requests_and_terms_keep_the_spans(copying):
    plain = strings(copying.translate_texts(TEXTS)["text"])
    found = copying.translate_controlled(TEXTS, n_best=3)
    assert [text[0] for text in strings(found["text"])] == plain
    for options in ({"repetition_penalty": 1.01, "n_best": 2}, {"temperature": 1.0}):
        found = strings(copying.translate_controlled(TEXTS, **options)["text"])
        assert all(text.count("<b>") == text.count("</b>") == 1 for text in found[0])
        assert all(text.count("{x}") == text.count("👍") == 1 for text in found[1])
    terms = copying.translate_with_terms(TEXTS, ["two", "zero", "x"], ["2 2", "0", "3"])
    assert [text.count("<b>") for text in strings(terms["text"])] == [1, 0, 0, 0, 0]
    assert strings(terms["text"])[1:4] == plain[1:4]
    assert terms["terms_found"].numpy().tolist() == [2, 0, 0, 0, 1]
    assert "2 2" in strings(terms["text"])[4]


def test_a_stream_gives_a_text_with_spans_at_its_end_and_others_token_by_token(translator):
    greedy = with_decoding(translator, beam_size=1, copy=("tags", "unknown"))
    values = [[*greedy.stream_tokens(text)] for text in TEXTS]
    assert [each[0] for each in values] == [""] * len(TEXTS)
    assert [each[-1] for each in values] == strings(greedy.translate_texts(TEXTS)["text"])
    assert [len(each) for each in values] == [2, 2, 1, 2, 3]


def test_a_prefix_is_refused_where_spans_might_have_to_go_into_it(copying):
    sentence = r"prefix must be empty.*copy=tags,placeholders,unknown"
    for request in (
        lambda: copying.translate_controlled(["two"], prefix="3"),
        lambda: ModelEngine(copying).translate_controlled(["two"], prefix=["3"]),
        lambda: ModelEngine(copying).alternatives("two", "2 3", 1),
        lambda: [*copying.stream_tokens("two", prefix="3")],
    ):
        with pytest.raises(InputError, match=sentence):
            request()


@pytest.mark.long
@pytest.mark.parametrize("form", ["saved_model", "tflite"])
def test_exports_copy_what_the_translator_copies(form, copying, run_folder, tmp_path):
    from ktransformer.cli import main

    output = tmp_path / "numbers.tflite" if form == "tflite" else tmp_path
    arguments = ["export", str(run_folder), "--format", form, "--output", str(output)]
    arguments += ["--copy", "tags,placeholders,unknown", "--signatures", "serving_default"]
    assert main(arguments if form == "tflite" else arguments[:-2]) == 0
    path = output if form == "tflite" else output / "1"
    engine = load_engine(path)
    assert engine.description.decoding.copy == ("tags", "placeholders", "unknown")
    expected = strings(copying.translate_texts(tf.constant(TEXTS))["text"])
    assert engine.translate(TEXTS) == expected
    source = tmp_path / "source"
    source.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    assert main(["verify", str(path), "--run", str(run_folder), "--source", str(source)]) == 0


def _tokenizer(symbols=SYMBOLS) -> Tokenizer:
    return Tokenizer.train([t for pair in number_pairs(300, 1) for t in pair], 80, symbols=symbols)


def _inserter(tokenizer, share=1.0):
    pairs = number_pairs(200, seed=1)
    sides = [tokenizer.encode_lines([pair[i] for pair in pairs]) for i in (0, 1)]
    return SymbolInserter((tokenizer, tokenizer), *sides, share), [*map(JoinedIds.join, sides)]


def test_symbols_are_inserted_on_both_sides_numbered_in_the_order_of_the_source():
    tokenizer = _tokenizer()
    inserter, sides = _inserter(tokenizer)
    ids = [tokenizer.symbols[symbol] for symbol in SYMBOLS]
    drawn = inserter.insert(*sides, np.random.default_rng(1))
    again = inserter.insert(*sides, np.random.default_rng(1))
    other = inserter.insert(*sides, np.random.default_rng(2))
    np.testing.assert_array_equal(drawn[0].flat, again[0].flat)
    assert not np.array_equal(drawn[0].flat, other[0].flat)
    for i in range(len(drawn[0])):
        source, target = (side.flat[side.starts[i] : side.starts[i + 1]] for side in drawn)
        count = int(np.isin(source, ids).sum())
        assert source[np.isin(source, ids)].tolist() == ids[:count]
        assert sorted(target[np.isin(target, ids)]) == ids[:count]
        assert 1 <= count <= 8


def test_a_tokenizer_without_symbols_is_refused():
    with pytest.raises(InputError, match=r"copy_share.*--copy-symbols"):
        _inserter(_tokenizer(symbols=()))


def test_training_pairs_with_equal_spans_get_symbols_numbered_as_in_the_source():
    sources = ["a {x} b <i>c</i>", "{x} only here", "plain"]
    targets = ["<i>C</i> A {x} B", "nothing", "einfach"]
    found = use_symbols(("tags", "placeholders"), sources, targets)
    assert [" ".join(line.split()) for line in found[0]] == ["a <c0> b <c1> c <c2>", *sources[1:]]
    assert [" ".join(line.split()) for line in found[1]] == ["<c1> C <c2> A <c0> B", *targets[1:]]


def test_symbols_of_the_tokenizer_are_no_spans_of_training_pairs():
    symbols = ("<formal>", "<x1>", *SYMBOLS)
    sources, targets = ["<formal> a <b>", "a <x1> <c1>"], ["A <b>", "A <x1> <c1>"]
    assert use_symbols(("tags",), sources, targets, symbols=symbols) == (
        ["<formal> a <c0>", "a <x1> <c0>"],
        ["A <c0>", "A <x1> <c0>"],
    )


def test_a_run_with_symbols_encodes_all_other_texts_as_before(run_folder):
    run = load_run(run_folder)
    extended = extend_vocabulary(run, [], symbols=SYMBOLS)
    size = run.tokenizer.vocabulary_size
    assert [extended.tokenizer.symbols[symbol] for symbol in SYMBOLS] == [*range(size, size + 10)]
    text = tf.constant(["four zero two"])
    before = Translator(run.model, run.tokenizer, run.config.decoding)
    after = Translator(extended.model, extended.tokenizer, run.config.decoding)
    np.testing.assert_array_equal(before.to_ids(text), after.to_ids(text))


@pytest.mark.long
def test_a_training_with_symbols_copies_by_default(data_folder, tmp_path):
    from ktransformer.cli import main
    from tests.small_run import train_arguments

    output: Path = tmp_path / "run"
    files = data_folder / "train.source", data_folder / "train.target"
    options = ["--set", "copy_share=0.5", "--set", "vocabulary_size=90", "--set", "epochs=8"]
    assert main(train_arguments(*files, output, *options)) == 0
    run = load_run(output)
    assert run.config.decoding.copy == tuple(kind for kind in KINDS if kind != "numbers")
    translator = Translator(run.model, run.tokenizer, run.config.decoding)
    found = strings(translator.translate_texts(tf.constant(["four {x} zero <b>two</b>"]))["text"])
    assert [found[0].count(span) for span in ("{x}", "<b>", "</b>")] == [1, 1, 1]
