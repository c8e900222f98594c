"""N-best translations of an export, held against those of its run."""

import dataclasses

import numpy as np
import pytest

from ktransformer.engines import Engine, ModelEngine
from ktransformer.verification.n_best import NBest, compare_n_best
from ktransformer.verification.translators import verify

LIMITS = {"min_identical": 0.999, "max_score_difference": 0.001}


class Given(Engine):
    """Gives three translations of a text, whatever it is."""

    kind = "given"

    def __init__(self, description, *hypotheses: tuple[str, float]) -> None:
        super().__init__(description)
        texts, scores = zip(*hypotheses, strict=True)
        self.texts = np.array([[text.encode() for text in texts]], object)
        self.scores = np.array([scores])

    def run(self, signature, texts):
        rows = len(texts)
        return {
            "text": self.texts.repeat(rows, 0),
            "score": self.scores.repeat(rows, 0),
            "truncated": np.zeros(rows, bool),
        }


@pytest.fixture
def compare(translator):
    """Compares three translations of a run with those of an export."""
    description = translator.describe(("beam",))
    assert description.decoding.beam_size == 3
    run = Given(description, ("a", -1.0), ("b", -1.0004), ("c", -2.0))

    def compare(*hypotheses: tuple[str, float], **changes) -> NBest | None:
        export = Given(dataclasses.replace(description, **changes), *hypotheses)
        return compare_n_best(run, export, ["x"] * 20, LIMITS)

    return compare


def test_equally_good_translations_may_swap_places(compare):
    found = compare(("b", -1.0004), ("a", -1.0), ("c", -2.0))
    assert found == NBest(1.0, 0.0)
    assert found.broken("m", LIMITS) == []


def test_a_translation_at_the_end_may_give_way_to_one_as_good(compare):
    assert compare(("a", -1.0), ("b", -1.0004), ("d", -2.0005)).identical == 1.0
    assert compare(("a", -1.0), ("b", -1.0004), ("d", -2.1)).identical == pytest.approx(2 / 3)


def test_another_translation_with_the_right_score_is_found_out(compare):
    found = compare(("a", -1.0), ("x", -1.0004), ("c", -2.0))
    assert found.identical == pytest.approx(2 / 3)
    assert "0.6667 of the n-best translations" in found.broken("m", LIMITS)[0]


@pytest.mark.parametrize("score", [-1.5, float("nan")])
def test_another_score_of_a_translation_is_found_out(compare, score):
    found = compare(("a", -1.0), ("b", score), ("c", -2.0))
    (broken,) = found.broken("m", LIMITS)
    assert "at most 0.001 was allowed" in broken


def test_no_n_best_translations_are_demanded_of_what_is_quantised_or_has_none(compare):
    hypotheses = [("x", -1.0), ("y", -1.0), ("z", -1.0)]
    assert compare(*hypotheses, quantization="dynamic_int8") is None
    assert compare(*hypotheses, signatures=("serving_default",)) is None


def test_a_wrong_signature_beam_breaks_the_tolerances(run_folder, lite_file, monkeypatch):
    right = ModelEngine.run

    def reversed_texts(self, signature, texts):
        outputs = right(self, signature, texts)
        if signature == "beam":
            outputs["text"] = outputs["text"][:, ::-1]
        return outputs

    texts = ["four zero two", "nine one"]
    good = verify([lite_file], run_folder, texts)
    assert good.results[1].n_best.identical == 1.0
    assert good.broken == ()
    monkeypatch.setattr(ModelEngine, "run", reversed_texts)
    assert "n-best" in verify([lite_file], run_folder, texts).broken[0]
