import dataclasses

import pytest

from ktransformer.engines import ModelEngine, batches_by_length, translate_blocks, translate_lines
from ktransformer.errors import InputError
from ktransformer.tasks import Translator
from tests.small_run import number_pairs
from tests.small_translator import TEXTS


@pytest.fixture(scope="module")
def engine(translator):
    return ModelEngine(translator)


def test_translate_returns_the_best_text_of_each(engine):
    assert engine.translate(["four zero two", "", "nine"]) == ["402", "", "9"]


def test_search_returns_texts_and_scores_best_first(engine):
    (translation,) = engine.translate_n_best(["four zero two"], n_best=3)
    assert translation.text == translation.texts[0] == "402"
    assert len(translation.texts) == len(translation.scores) == 3
    assert translation.scores == sorted(translation.scores, reverse=True)
    assert not translation.truncated


def test_no_texts_give_no_translations(engine):
    assert engine.translate([]) == []
    assert translate_lines(engine, []) == []


@pytest.mark.parametrize("n_best", [4, 0, -1])
def test_a_number_outside_the_beam_is_refused(engine, n_best):
    with pytest.raises(InputError, match=f"n_best.*3.*{n_best}"):
        engine.translate_n_best(["one"], n_best=n_best)


def test_a_single_string_is_no_list_of_texts(engine):
    with pytest.raises(TypeError, match="list"):
        engine.translate("one")


def test_the_beam_stands_in_for_a_missing_default(translator):
    engine = ModelEngine(translator)
    engine.description = dataclasses.replace(engine.description, signatures=("beam",))
    assert engine.translate(["nine"]) == ["9"]


def test_missing_signatures_are_named(translator):
    engine = ModelEngine(translator)
    engine.description = dataclasses.replace(engine.description, signatures=("encode",))
    with pytest.raises(InputError, match=r"serving_default.*beam.*encode"):
        engine.translate(["nine"])


def test_lines_come_back_in_order_whatever_the_batches(engine):
    expected = engine.translate(TEXTS)
    lines = translate_lines(engine, TEXTS, batch_size=2)
    assert [line.text for line in lines] == expected


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_stream_gives_what_each_line_gives_alone(translator, concurrency):
    lines = [*TEXTS, *(source for source, _ in number_pairs(40, seed=7)), "one " * 40]
    engine = ModelEngine(Translator(translator.model, translator.tokenizer, translator.decoding))
    engine.concurrency = concurrency  # The graph is traced by several threads at once, too.
    blocks = [lines[:20], [], lines[20:21], lines[21:]]
    translated = list(translate_blocks(engine, blocks, batch_size=4, n_best=2))
    assert [len(block) for block in translated] == [len(block) for block in blocks]
    found = [translation for block in translated for translation in block]
    for line, translation in zip(lines, found, strict=True):
        (alone,) = engine.translate_n_best([line], n_best=2)
        assert (translation.texts, translation.truncated) == (alone.texts, alone.truncated)
        assert translation.scores == pytest.approx(alone.scores, abs=1e-4)


def test_a_block_is_translated_before_the_next_is_asked_for(engine):
    asked = []

    def blocks():
        for text in ("one", "two"):
            asked.append(text)
            yield [text]

    stream = translate_blocks(engine, blocks())
    assert [translation.text for translation in next(stream)] == ["1"]
    assert asked == ["one"]


def test_every_batch_is_reported_when_it_is_done(engine):
    done = []
    list(translate_blocks(engine, [TEXTS, TEXTS], batch_size=2, on_batch=done.append))
    assert max(map(len, done)) == 2
    assert sorted(text for batch in done for text in batch) == sorted([*TEXTS, *TEXTS])


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_goes_wrong_in_a_batch_ends_the_stream(translator, concurrency):
    engine = ModelEngine(translator)
    engine.concurrency = concurrency
    with pytest.raises(InputError, match=r"n_best.*3.*9"):
        list(translate_blocks(engine, [["one"] * 9], batch_size=2, n_best=9))


def test_long_lines_make_small_batches():
    lines = ["x" * length for length in (10, 20_000, 4000, 10, 4000, 4000, 5000, 4000)]
    batches = [[len(lines[i]) for i in chosen] for chosen in batches_by_length(lines, 4)]
    assert batches == [[10, 10, 4000, 4000], [4000, 4000, 5000], [20_000]]
