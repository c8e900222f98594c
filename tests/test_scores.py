import pytest

from ktransformer.scores import score_texts


def test_one_word_translations_have_no_bleu_but_chrf_and_exact_matches():
    scores = score_texts(["402", "17", "5", "99"], ["402", "17", "6", "98"])
    assert scores.bleu == 0
    assert scores.exact_match == 0.5
    assert 50 < scores.chrf < 100


def test_translations_that_are_their_references_have_the_best_scores():
    lines = ["a dog runs over the street", "two cats sleep on a warm roof"]
    scores = score_texts(lines, lines)
    assert (scores.bleu, scores.chrf, scores.exact_match) == pytest.approx((100, 100, 1))


def test_bleu_of_a_pair_counted_by_hand():
    # Precisions 4/5, 3/4, 2/3 and 1/2, and no penalty: the fourth root of 1/5.
    scores = score_texts(["a b c d x"], ["a b c d e"])
    assert scores.bleu == pytest.approx(100 * 0.2**0.25)
    assert scores.exact_match == 0


def test_the_signature_tells_how_words_were_found():
    assert "tok:char" in score_texts(["a"], ["a"], tokenize="char").signature
    assert "tok:13a" in score_texts(["a"], ["a"]).signature
