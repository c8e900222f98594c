import random

import pytest

from ktransformer.engines import LiteEngine, ModelEngine, SavedModelEngine, load_engine
from ktransformer.errors import InputError
from tests.small_translator import TEXTS

# What a random text is drawn from: words of the training text, its letters, other scripts,
# spaces and control characters, marks that combine, and all of Unicode but the surrogates.
_WORDS = ["one ", "two", " seven", "nine nine ", "four  "]
_ODD = [*"▁ \t\u00a0\u3000\u200b\u0301\x00\x01\x7f…½ﬁ①Ω한字ع😀\u202e\ufeff\ufffd", "<s>", "</s>"]


def random_text(generator: random.Random) -> str:
    def draw() -> str:
        kind = generator.random()
        if kind < 0.4:
            return generator.choice(_WORDS)
        if kind < 0.8:
            return generator.choice(_ODD)
        return chr(generator.choice([*range(1, 0xD800, 7), *range(0xE000, 0x110000, 1999)]))

    return "".join(draw() for _ in range(generator.choice([0, 1, 2, 5, 12, 40])))


@pytest.fixture(scope="module")
def engines(run_folder, saved_model, lite_file):
    return [load_engine(path) for path in (run_folder, saved_model, lite_file)]


def test_a_path_opens_as_what_lies_there(engines):
    assert [type(engine) for engine in engines] == [ModelEngine, SavedModelEngine, LiteEngine]


def test_the_three_engines_give_the_same_texts_and_scores(engines):
    expected, *others = [engine.translate_n_best(TEXTS, n_best=3) for engine in engines]
    for got in others:
        assert [line.texts for line in got] == [line.texts for line in expected]
        assert [line.truncated for line in got] == [line.truncated for line in expected]
        for line, other in zip(expected, got, strict=True):
            assert other.scores == pytest.approx(line.scores, abs=1e-4)


@pytest.mark.long
def test_ten_thousand_random_texts_give_the_same_in_all_three_engines(engines):
    generator = random.Random(7)
    texts = [random_text(generator) for _ in range(10_000)]
    different = 0
    for i in range(0, len(texts), 100):
        expected, *others = [engine.translate_n_best(texts[i : i + 100]) for engine in engines]
        for got in others:
            for line, other in zip(expected, got, strict=True):
                assert line.truncated == other.truncated
                # Where the texts differ, a tie was flipped by rounding: the scores are equal.
                assert other.scores[0] == pytest.approx(line.scores[0], abs=1e-4)
                different += line.text != other.text
    assert different <= 10


def test_bytes_that_are_no_utf8_give_the_same_in_all_three_engines(engines):
    import numpy as np

    texts = np.array([b"\xff\xfe", b"one \xe4", b"\xf0\x9f\x98", b"\xc3("], dtype=object)
    outputs = [engine.run("serving_default", texts)["text"].tolist() for engine in engines]
    assert outputs[0] == outputs[1] == outputs[2]


def test_an_empty_batch_is_empty_in_the_graph_of_all_three(engines):
    import numpy as np

    for engine in engines:
        outputs = engine.run("beam", np.array([], dtype=object))
        assert outputs["text"].shape == (0, 3)
        assert outputs["score"].shape == (0, 3)


def test_any_batch_size_works_in_all_three(engines):
    generator = random.Random(3)
    for _ in range(40):
        size = generator.randint(1, 40)
        expected, *others = [engine.translate(["four zero two"] * size) for engine in engines]
        assert expected == ["402"] * size == others[0] == others[1]


def test_a_run_takes_another_beam_size_and_an_export_does_not(run_folder, lite_file):
    assert load_engine(run_folder, beam_size=5).description.decoding.beam_size == 5
    penalized = load_engine(run_folder, length_penalty=0.5)
    assert penalized.description.decoding.length_penalty == 0.5
    assert load_engine(lite_file, beam_size=3).description.decoding.beam_size == 3
    with pytest.raises(InputError, match=r"beam.size.*3"):
        load_engine(lite_file, beam_size=5)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="there is no such file or folder"):
        load_engine(tmp_path / "absent")


def test_a_text_far_over_the_length_is_cut_in_all_engines_before_it_is_encoded(engines):
    limit = 64 * 24
    # All that is unknown is one token: only the limit cuts such a text.
    texts = ["one" + "ж" * limit, "two" + " " * limit + "three", "ж" * limit]
    for engine in engines:
        cut, spaced, whole = engine.translate_n_best(texts)
        assert (cut.truncated, spaced.truncated, whole.truncated) == (True, True, False)
        assert cut.texts == engine.translate_n_best([texts[0][:limit]])[0].texts
        assert spaced.texts == engine.translate_n_best(["two three"])[0].texts


def test_every_engine_knows_the_characters_of_its_tokenizer(engines, translator):
    known = {engine.description.characters for engine in engines}
    assert known == {translator.tokenizer.characters}
