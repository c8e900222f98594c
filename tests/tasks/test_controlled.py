"""Requests that steer the search, on a model whose weights are drawn: it writes loops."""

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import ForcedPrefix, SuppressedIds, beam_search
from ktransformer.engines import ModelEngine, load_engine, open_model
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.tasks.controls import Controls
from ktransformer.tasks.transformer_search import TransformerSearch
from ktransformer.verification import Export, compare_exports
from tests.small_translator import drawn_translator, strings, with_decoding

TEXTS = ["four zero two", "", "nine seven", "seven seven seven one six", "qqq"]
STEERED = {
    "length_penalty": 0.6,
    "min_length": 5,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "coverage_penalty": 0.3,
}


@pytest.fixture(scope="module")
def drawn():
    return drawn_translator()


@pytest.fixture(scope="module")
def control(drawn):
    """Returns the texts and scores of a request."""

    def run(texts=TEXTS, **options):
        found = drawn.translate_controlled(texts, **options)
        return strings(found["text"]), found["score"].numpy()

    return run


def pieces_of(translator, text):
    return translator.target_tokenizer.encode(tf.constant([text])).values.numpy().tolist()


def test_a_request_without_options_is_the_plain_search(drawn, control):
    texts, scores = control(n_best=3)
    expected = drawn.beam(TEXTS)
    assert texts == [row[:3] for row in strings(expected["text"])]
    np.testing.assert_array_equal(scores, expected["score"][:, :3])


def test_options_do_what_the_same_settings_do(drawn, control):
    texts, scores = control(n_best=4, **STEERED)
    expected = with_decoding(drawn, **STEERED).beam(TEXTS)
    assert texts == strings(expected["text"])
    np.testing.assert_allclose(scores, expected["score"], atol=1e-5)


@pytest.mark.long
def test_an_option_that_is_not_given_is_the_translators_own(drawn):
    own = with_decoding(drawn, **STEERED)
    found = own.translate_controlled(TEXTS, n_best=4, prefix=["", "", "", "", "3"])
    expected = own.beam(TEXTS)
    assert strings(found["text"])[:4] == strings(expected["text"])[:4]


@pytest.mark.parametrize("prefix", ["3  4", "3  4 ", " qqq\t4 é", "\u00b2 ﬁ", "three seven\n"])
def test_a_prefix_comes_back_byte_for_byte(control, prefix):
    texts, _ = control(prefix=prefix)
    assert all(text.startswith(prefix) for (text,) in texts)


def test_a_prefix_goes_on_as_if_the_model_had_written_it(drawn, control):
    prefix = pieces_of(drawn, "3 4")[:-1]
    source = drawn.to_ids(TEXTS)
    best = beam_search(
        TransformerSearch(drawn.model, source),
        tf.minimum(drawn.find_limits(source), drawn.max_target_length - len(prefix)),
        drawn.special_search_ids(),
        beam_size=4,
        rules=[ForcedPrefix(tf.constant([prefix] * len(TEXTS)))],
    )
    written = tf.concat([tf.constant([prefix] * len(TEXTS)), best.ids[:, 0]], axis=1)
    expected = strings(drawn.target_tokenizer.decode(tf.where(written == 3, 0, written)))
    texts, scores = control(prefix="3 4")
    assert [text for (text,) in texts][2:] == expected[2:]
    np.testing.assert_allclose(scores[2:, 0], best.scores[2:, 0], atol=1e-5)


def test_a_text_of_nothing_is_its_prefix(control):
    texts, scores = control(["", "  "], prefix="3 4 ")
    assert texts == [["3 4 "], ["3 4 "]]
    assert scores.tolist() == [[0], [0]]


def test_a_new_word_follows_a_prefix_with_a_space(control):
    joined, parted = (control(["nine seven"], prefix=prefix)[0][0][0] for prefix in ("two", "two "))
    assert joined.startswith("two7")
    assert parted.startswith("two t")


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\f"])
def test_any_white_space_ends_the_word_of_a_prefix(control, space):
    found, expected = (control(["nine seven"], prefix=f"two{end}")[0][0][0] for end in (space, " "))
    assert found == f"two{space}{expected.removeprefix('two ')}"


def test_a_prefix_longer_than_any_translation_is_cut_and_comes_back(drawn):
    long = "3 4 " * 40
    found = drawn.translate_controlled(["nine"], prefix=long)
    assert (strings(found["text"]), found["truncated"].numpy()) == ([[long]], [True])


def test_lengths_count_the_tokens_after_the_prefix(drawn, control):
    for prefix in ("two", "9 8"):
        (text,) = control(["nine seven"], prefix=prefix, min_length=3, max_length=3)[0][0]
        assert len(pieces_of(drawn, text)) == len(pieces_of(drawn, prefix)) + 2


def test_a_suppressed_word_is_not_written(control):
    assert "three" in control()[0][0][0]
    for (text,) in control(suppress=["three", "7"])[0]:
        assert not {"three", "7"} & set(text.split())


def test_a_suppressed_word_of_many_pieces_is_never_completed(drawn, control):
    assert len(pieces_of(drawn, "three three")) > 2
    texts = [text for (text,) in control(suppress=["three three"])[0]]
    assert "three" in texts[0]
    assert not any("three three" in text for text in texts)


def test_alternatives_differ_in_their_first_token(drawn, control):
    texts, scores = control(["nine seven"], n_best=5, alternatives=True, prefix="3 ")
    firsts = {pieces_of(drawn, text)[len(pieces_of(drawn, "3")) - 1] for text in texts[0]}
    assert len(firsts) == 5
    assert scores[0].tolist() == sorted(scores[0], reverse=True)
    best, best_scores = control(["nine seven"], prefix="3 ")
    assert (texts[0][0], scores[0, 0]) == (best[0][0], pytest.approx(best_scores[0, 0]))


@pytest.mark.long
def test_samples_are_those_of_sample(drawn, control):
    options = {"seed": 5, "temperature": 0.7, "top_k": 8, "top_p": 0.9, "min_p": 0.01}
    texts, scores = control(**options)
    expected = drawn.sample(TEXTS, **options)
    assert [text for (text,) in texts] == strings(expected["text"])
    np.testing.assert_allclose(scores[:, 0], expected["score"], atol=1e-5)


def test_samples_of_a_text_differ_and_the_best_comes_first(control):
    texts, scores = control(["nine seven"], n_best=9, temperature=1.0)
    assert len(set(texts[0])) > 5
    assert scores[0].tolist() == sorted(scores[0], reverse=True)


@pytest.mark.parametrize(
    "odd",
    [
        {"length_penalty": np.nan, "repetition_penalty": 0.0, "coverage_penalty": -3.0},
        {"n_best": -7, "min_length": -2, "max_length": 0, "no_repeat_ngram_size": -1},
        {"temperature": np.nan, "top_p": 7.0, "min_p": np.nan, "top_k": -1},
    ],
)
def test_numbers_out_of_range_change_nothing_in_a_graph(drawn, odd):
    inputs = Controls().to_inputs(np.array([text.encode() for text in TEXTS], object))
    inputs |= {name: np.array(value, inputs[name].dtype) for name, value in odd.items()}
    found = drawn.controlled(**inputs)
    assert [text for (text,) in strings(found["text"])] == strings(
        drawn.translate_texts(TEXTS)["text"]
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_best", 5),
        ("n_best", 0),
        ("min_length", -1),
        ("max_length", 0),
        ("repetition_penalty", 0),
        ("no_repeat_ngram_size", 1.5),
        ("coverage_penalty", -0.5),
        ("temperature", float("inf")),
        ("seed", 0.5),
        ("prefix", ["3", "4"]),
        ("suppress", "three"),
        ("alternatives", 2),
    ],
)
def test_options_out_of_range_are_named(control, name, value):
    with pytest.raises(InputError, match=name):
        control(**{name: value})


@pytest.mark.parametrize("given", [{"top_k": 3}, {"seed": 0}, {"temperature": 1, "top_p": 1.5}])
def test_options_of_sampling_need_a_temperature_and_a_range(control, given):
    with pytest.raises(InputError, match=next(reversed(given))):
        control(**given)


def test_samples_without_a_seed_are_those_of_seed_0(control):
    assert control(temperature=2.0)[0] == control(temperature=2.0, seed=0)[0]
    assert control(temperature=2.0)[0] != control(temperature=2.0, seed=1)[0]


def test_annotations_are_those_of_the_tokens_written(drawn):
    found = drawn.translate_controlled(["nine seven"], prefix="two", n_best=2, annotate=True)
    expected = drawn.annotate(["nine seven"] * 2, found["text"][0])
    tokens = found["tokens"][0].numpy().tolist()
    assert (
        b"".join(tokens[0]).decode().replace("▁", " ").split("</s>")[0].strip()
        == (strings(found["text"])[0][0])
    )
    assert found["source_tokens"].numpy().tolist() == expected["source_tokens"][:1].numpy().tolist()
    scores = tf.reduce_sum(found["log_probability"][0, :, 1:], axis=1)
    counts = [sum(map(bool, row)) - 1 for row in tokens]
    np.testing.assert_allclose(scores / counts, found["score"][0], atol=1e-5)


def test_an_engine_returns_annotations(drawn):
    options = {"prefix": "two  ", "n_best": 2, "annotate": True}
    texts = ["nine seven", "one"]
    expected = drawn.translate_controlled(texts, **options)
    found = ModelEngine(drawn).translate_controlled(texts, **options)
    for row, translation in enumerate(found):
        assert len(translation.annotations) == 2
        for k, annotation in enumerate(translation.annotations):
            assert (annotation.source, annotation.target) == (texts[row], translation.texts[k])
            assert annotation.tokens[-1] == "</s>"
            length = len(annotation.tokens)
            scores = expected["log_probability"][row, k]
            assert annotation.scores == scores[:length].numpy().tolist()
            assert not scores[length:].numpy().any()
            size = (length, len(annotation.source_tokens))
            weights = expected["weights"][row, k, : size[0], : size[1]]
            np.testing.assert_array_equal(annotation.weights, weights)
            targets = annotation.target.split()
            assert {j for _, j in annotation.words} <= set(range(len(targets)))
    assert ModelEngine(drawn).translate_controlled(texts)[0].annotations == ()


def test_the_longest_translations_are_annotated(drawn):
    found = drawn.translate_controlled(
        ["seven seven seven one six"], prefix="two", min_length=30, annotate=True
    )
    assert found["tokens"].shape[2] == drawn.max_target_length
    assert all(found["tokens"].numpy().flat)


def test_an_engine_gives_alternatives_at_a_position(drawn):
    engine = ModelEngine(drawn)
    found = engine.alternatives("nine seven", "3 4 5", 2, n_best=3)
    assert len(set(found.texts)) == 3
    assert all(text.startswith("3 ") for text in found.texts)
    with pytest.raises(InputError, match=r"position.*5.*6"):
        engine.alternatives("nine seven", "3 4 5", 6)


@pytest.mark.long
def test_suppressed_ids_are_those_of_the_rule(drawn):
    """One piece is excluded as `SuppressedIds` excludes it."""
    piece = pieces_of(drawn, "7")[0]
    source = drawn.to_ids(TEXTS)
    rules = [*drawn.find_rules(), SuppressedIds([piece])]
    expected = drawn.target_tokenizer.decode(drawn.search(source, rules=rules).ids[:, 0])
    found = drawn.translate_controlled(TEXTS, suppress=["7"])["text"]
    assert [text for (text,) in strings(found)] == strings(expected)


REQUESTS = [
    {},
    {"n_best": 3, "prefix": "3  4 "},
    {"prefix": ["", "three", "9 8", "é ", "qqq"], "suppress": ["three three", "7"]},
    {"alternatives": True, "n_best": 6, "annotate": True},
    {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.1, "n_best": 2, "seed": 2**40},
    STEERED,
]


@pytest.fixture(scope="module")
def exports(drawn, tmp_path_factory):
    folder, names = tmp_path_factory.mktemp("controlled"), ["serving_default", "controlled"]
    return (
        export_saved_model(drawn, folder / "saved", signatures=names),
        export_lite(drawn, folder / "model.tflite", signatures=names),
    )


@pytest.mark.long
def test_exports_do_what_the_model_does(drawn, exports):
    texts = np.array([text.encode() for text in TEXTS], object)
    models = [open_model(path) for path in exports]
    for options in REQUESTS:
        inputs = Controls(**options).to_inputs(texts)
        expected = drawn.controlled(**inputs)
        for model in models:
            found = model.run("controlled", **inputs)
            assert found["text"].tolist() == expected["text"].numpy().tolist(), options
            np.testing.assert_allclose(found["score"], expected["score"], atol=1e-4)
            np.testing.assert_array_equal(found["truncated"], expected["truncated"])
            np.testing.assert_array_equal(found["tokens"], expected["tokens"])
            np.testing.assert_allclose(found["weights"], expected["weights"], atol=1e-4)
    options = {"n_best": 2, "annotate": True, "prefix": "3 "}
    first, *others = [
        engine.translate_controlled(TEXTS, **options)
        for engine in (ModelEngine(drawn), *map(load_engine, exports))
    ]
    for other in others:
        for one, same in zip(first, other, strict=True):
            for annotation, expected in zip(one.annotations, same.annotations, strict=True):
                assert (annotation.tokens, annotation.target) == (expected.tokens, expected.target)
                np.testing.assert_allclose(annotation.scores, expected.scores, atol=1e-4)


@pytest.mark.long
def test_verify_compares_requests_without_options_and_with_some(drawn, exports):
    report = compare_exports(drawn, [Export(path) for path in exports], TEXTS[:1] * 3)
    results = [result for result in report.results if result.signature == "controlled"]
    assert [result.kind for result in results] == ["SavedModel", "tflite"] * 2
    assert all(result.identical == 1 for result in results)
