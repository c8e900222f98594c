import pytest
import sacrebleu
from sacrebleu.significance import PairedTest

from ktransformer.errors import InputError
from ktransformer.scores import compare_texts, edit_rate, score_texts


def test_one_word_translations_have_no_bleu_but_chrf_and_exact_matches():
    scores = score_texts(["402", "17", "5", "99"], ["402", "17", "6", "98"])
    assert scores.bleu == 0
    assert scores.exact_match == 0.5
    assert 50 < scores.chrf < 100


def test_translations_that_are_their_references_have_the_best_scores():
    lines = ["a dog runs over the street", "two cats sleep on a warm roof"]
    scores = score_texts(lines, lines)
    assert (scores.bleu, scores.chrf, scores.exact_match) == pytest.approx((100, 100, 1))


@pytest.mark.parametrize(
    ("texts", "references"), [(["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], [])]
)
def test_translations_and_references_of_different_numbers_are_refused(texts, references):
    for score in (
        lambda: score_texts(texts, references),
        lambda: edit_rate(texts, references),
        lambda: compare_texts(references, texts, references),
    ):
        with pytest.raises(InputError, match="a translation for each reference"):
            score()


def test_bleu_of_a_pair_counted_by_hand():
    # Precisions 4/5, 3/4, 2/3 and 1/2, and no penalty: the fourth root of 1/5.
    scores = score_texts(["a b c d x"], ["a b c d e"])
    assert scores.bleu == pytest.approx(100 * 0.2**0.25)
    assert scores.exact_match == 0


def test_the_signature_tells_how_words_were_found():
    assert "tok:char" in score_texts(["a"], ["a"], tokenize="char").signature
    assert "tok:13a" in score_texts(["a"], ["a"]).signature


def test_the_edit_rate_of_a_pair_counted_by_hand():
    # One word replaced, one moved: two edits for five words.
    assert edit_rate(["b c a d x"], ["a b c d e"]) == pytest.approx(40)
    assert edit_rate(["a b"], ["a b"]) == 0


def test_lines_of_more_than_1000_words_have_no_edit_rate():
    long = "word " * 1001
    assert edit_rate(["a", "b"], ["a", long]) is None
    assert "ter" not in compare_texts(["a"], [long], ["a"], resamples=2)
    assert edit_rate(["a"], ["word " * 1000]) == pytest.approx(100)


def _systems(count=60):
    references = [f"word{i % 7} of sentence number{i % 11} is here" for i in range(count)]
    good = [text if i % 3 else text.replace("here", "there") for i, text in enumerate(references)]
    bad = [text if i % 3 == 1 else f"some {text[6:]}" for i, text in enumerate(references)]
    return good, bad, references


def test_two_systems_have_the_scores_and_p_values_of_sacrebleu():
    good, bad, references = _systems()
    found = compare_texts(good, bad, references, resamples=200)
    metrics = {"BLEU": sacrebleu.BLEU(), "chrF2": sacrebleu.CHRF(), "TER": sacrebleu.TER()}
    test = PairedTest([("b", bad), ("g", good)], metrics, [references], "bs", n_samples=200)
    for name, key in (("bleu", "BLEU"), ("chrf", "chrF2"), ("ter", "TER")):
        other, first = test()[1][key]
        comparison = found[name]
        assert (comparison.score, comparison.other) == (first.score, other.score)
        assert comparison.p_value == first.p_value < 0.05
        assert sum(comparison.interval) / 2 == pytest.approx(first.mean, 1e-4)
        assert comparison.other_interval[1] - other.mean == pytest.approx(other.ci, 1e-4)
    assert "seed:12345" in found["bleu"].signature
    assert "bs:200" in found["bleu"].signature


def test_a_system_does_not_differ_from_itself():
    good, _, references = _systems()
    for comparison in compare_texts(good, good, references, resamples=50).values():
        assert comparison.p_value == 1
        assert comparison.score == comparison.other
