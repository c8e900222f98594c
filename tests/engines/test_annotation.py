"""Annotations of translations from each form of engine, and the columns of `translate`."""

import numpy as np
import pytest

from ktransformer.engines import LiteEngine, ModelEngine, SavedModelEngine
from ktransformer.engines.annotation import Annotation
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, export_lite
from ktransformer.tasks.inputs import cut_texts
from ktransformer.verification import verify

SOURCES = ["four zero two", "nine", "", "seven seven seven one six", "qqq é two"]
TARGETS = ["402", "9 9", "1", "7 7", ""]


@pytest.fixture(scope="module")
def lite_path(translator, tmp_path_factory):
    path = tmp_path_factory.mktemp("annotated") / "a.tflite"
    return export_lite(translator, path, signatures=["annotate"])


@pytest.fixture(scope="module")
def expected(translator):
    return ModelEngine(translator).annotate(SOURCES, TARGETS)


def check_equal(found: list[Annotation], expected: list[Annotation]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert (one.tokens, one.source_tokens) == (other.tokens, other.source_tokens)
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-4)
        assert (one.alignment, one.truncated) == (other.alignment, other.truncated)


def test_an_annotation_has_the_tokens_without_padding(expected, translator):
    scores = translator.score(SOURCES, TARGETS)
    for row, annotation in enumerate(expected):
        assert len(annotation.tokens) == scores["tokens"][row] == len(annotation.scores)
        assert annotation.weights.shape == (len(annotation.tokens), len(annotation.source_tokens))
        assert annotation.log_probability == pytest.approx(
            float(scores["log_probability"][row]), abs=1e-3
        )


def test_a_saved_model_annotates_as_the_run_does(saved_model, expected):
    check_equal(SavedModelEngine(saved_model).annotate(SOURCES, TARGETS), expected)


def test_a_tflite_annotates_as_the_run_does(lite_path, expected, translator):
    check_equal(LiteEngine(lite_path).annotate(SOURCES, TARGETS), expected)
    texts = [cut_texts(each, 24) for each in (SOURCES, TARGETS)]
    found = LiteModel(lite_path).run("annotate", source=texts[0], target=texts[1])
    for name, tensor in translator.annotate(SOURCES, TARGETS).items():
        if tensor.dtype.is_floating:
            np.testing.assert_allclose(found[name], tensor, atol=1e-4)
        else:
            np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize("counts", [(1, 2), (2, 1)])
def test_a_tflite_takes_a_target_for_each_source(lite_path, counts):
    source, target = (np.array([b"one"] * count, object) for count in counts)
    match = f"equally many; got source: {counts[0]}, target: {counts[1]}"
    with pytest.raises(InputError, match=match):
        LiteModel(lite_path).run("annotate", source=source, target=target)


@pytest.mark.long
def test_verify_checks_the_signature(lite_path, run_folder, tmp_path):
    (tmp_path / "texts").write_text("four zero two\nnine\n")
    report = verify([lite_path], run_folder, tmp_path / "texts")
    assert not report.broken
    assert [result.identical for result in report.results] == [1.0] * 2
    assert report.results[1].difference < 1e-4


def test_an_export_without_the_signature_is_refused(lite_file):
    with pytest.raises(InputError, match=r"signature annotate.*serving_default"):
        LiteEngine(lite_file).annotate(["nine"], ["9"])


def test_sides_of_different_numbers_are_refused(translator):
    with pytest.raises(InputError, match=r"sources.*2 sources and 1 targets"):
        ModelEngine(translator).annotate(["nine", "one"], ["9"])


def test_texts_that_are_cut_are_marked(translator):
    (found,) = ModelEngine(translator).annotate(["one " * 60], ["1"])
    assert found.truncated


def test_words_and_characters_follow_from_the_alignment_of_tokens():
    annotation = Annotation(
        source="Two  big dogs",
        target="zwei Hunde",
        source_tokens=["▁Two", "▁big", "▁dog", "s", "</s>"],
        tokens=["▁zwei", "▁Hund", "e", "</s>"],
        scores=[-0.5, -0.25, -0.25, 0.0],
        alignment=[0, 2, 4, 4],
        weights=np.zeros((4, 5), np.float32),
        truncated=False,
    )
    assert annotation.characters == [((0, 3), (0, 4)), ((9, 12), (5, 9))]
    assert annotation.words == [(0, 0), (2, 1)]
    assert annotation.pharaoh == "0-0 2-1"
    assert annotation.log_probability == -1


def test_translate_prints_the_alignment_and_the_scores_in_columns(
    run_folder, translate, translator
):
    text = "four zero two\n\nnine\n"
    status, output, _ = translate(text, run_folder, "--alignment", "--token-scores")
    assert status == 0
    annotations = ModelEngine(translator).annotate(text.splitlines(), ["402", "", "9"])
    for line, annotation in zip(output.splitlines(), annotations, strict=True):
        translation, alignment, scores = line.split("\t")
        assert translation == annotation.target
        assert alignment == annotation.pharaoh
        pairs = [scored.rsplit(":", 1) for scored in scores.split(" ")]
        assert [token for token, _ in pairs] == annotation.tokens
        assert [float(score) for _, score in pairs] == pytest.approx(annotation.scores, abs=1e-3)


def test_translate_of_an_export_without_the_signature_is_refused(lite_file, translate):
    status, _, errors = translate("nine\n", lite_file, "--alignment")
    assert status == 2
    assert "annotate" in errors
