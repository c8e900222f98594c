import dataclasses

import pytest

from ktransformer.errors import InputError
from ktransformer.serving import ModelEngine, translate_lines
from tests.serving.test_translator import TEXTS


@pytest.fixture(scope="module")
def engine(translator):
    return ModelEngine(translator)


def test_translate_returns_the_best_text_of_each(engine):
    assert engine.translate(["four zero two", "", "nine"]) == ["402", "", "9"]


def test_search_returns_texts_and_scores_best_first(engine):
    (translation,) = engine.search(["four zero two"], n_best=3)
    assert translation.text == translation.texts[0] == "402"
    assert len(translation.texts) == len(translation.scores) == 3
    assert translation.scores == sorted(translation.scores, reverse=True)
    assert not translation.truncated


def test_no_texts_give_no_translations(engine):
    assert engine.translate([]) == []
    assert translate_lines(engine, []) == []


@pytest.mark.parametrize("n_best", [4, 0, -1])
def test_a_number_outside_the_beam_is_refused(engine, n_best):
    with pytest.raises(InputError, match=f"at most the beam size, 3; got {n_best}"):
        engine.search(["one"], n_best=n_best)


def test_a_single_string_is_no_list_of_texts(engine):
    with pytest.raises(TypeError, match="must be a list of strings"):
        engine.translate("one")


def test_the_beam_stands_in_for_a_missing_default(translator):
    engine = ModelEngine(translator)
    engine.description = dataclasses.replace(engine.description, signatures=("beam",))
    assert engine.translate(["nine"]) == ["9"]


def test_missing_signatures_are_named(translator):
    engine = ModelEngine(translator)
    engine.description = dataclasses.replace(engine.description, signatures=("encode",))
    with pytest.raises(InputError, match="no signature serving_default or beam, only encode"):
        engine.translate(["nine"])


def test_lines_come_back_in_order_whatever_the_batches(engine):
    expected = engine.translate(TEXTS)
    lines = translate_lines(engine, TEXTS, batch_size=2)
    assert [line.text for line in lines] == expected
