import pytest

from ktransformer.errors import InputError
from ktransformer.serving import ModelEngine, translate_lines
from tests.serving.test_translator import TEXTS, with_decoding


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


def test_more_than_the_beam_holds_is_refused(engine):
    with pytest.raises(InputError, match="n_best must be at most the beam size, 3; got 4"):
        engine.search(["one"], n_best=4)


def test_a_missing_signature_is_named(translator):
    engine = ModelEngine(with_decoding(translator))
    with pytest.raises(InputError, match="has no signature score, only serving_default, beam"):
        engine.check("score")


def test_lines_come_back_in_order_whatever_the_batches(engine):
    expected = engine.translate(TEXTS)
    lines = translate_lines(engine, TEXTS, batch_size=2)
    assert [line.text for line in lines] == expected
