"""Tokenizers with other special ids, or two of them, from batches to exports."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import ktransformer
from ktransformer.config import Config, DecodingConfig, TrainingConfig
from ktransformer.engines import LiteEngine, SavedModelEngine
from ktransformer.errors import InputError
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.fitting import compile_training_model
from ktransformer.fitting.pruning import prune_run
from ktransformer.models import MaskedLanguageModel, Transformer
from ktransformer.saving.run import Run
from ktransformer.tasks import MaskFiller, Shortlist, Translator
from ktransformer.tasks import save as save_task
from ktransformer.text import MaskedBatches, TokenBatches, Tokenizer
from ktransformer.text.lexicon import train_lexicon
from tests.layers.layer_checks import built
from tests.text.own_ids import PAIRS, make_sides

SIZES = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 16, "max_length": 24}
DECODING = DecodingConfig(beam_size=3, max_length_ratio=1.0, max_length_offset=3)
TEXTS = ["four zero two", "", "nine", "seven seven seven one six"]
SOURCES, TARGETS = (list(side) for side in zip(*PAIRS, strict=True))


def renumber(tokenizer, *, keep_last=0, seed=3):
    """Shuffles the ids of a tokenizer; returns the new id of each old one, too."""
    size = tokenizer.vocabulary_size
    moved = np.random.default_rng(seed).permutation(size - keep_last)
    order = np.concatenate([moved, np.arange(size - keep_last, size)])
    pieces = tokenizer.pieces(range(size))
    table = {piece: int(i) for piece, i in zip(pieces, order, strict=True)}
    return Tokenizer.from_table(tokenizer.model, table), order


def renumber_model(model, order, pad_id):
    """Returns a model with the same weights, where the id i has become `order[i]`."""
    other = built(type(model).from_config({**model.get_config(), "pad_id": pad_id}))
    for old, new in zip(model.weights, other.weights, strict=True):
        values = keras.ops.convert_to_numpy(old)
        for axis in [axis for axis, size in enumerate(values.shape) if size == len(order)]:
            values = np.take(values, np.argsort(order), axis=axis)
        new.assign(values)
    return other


@pytest.fixture(scope="module")
def both():
    """A translator with the usual ids, and the same one with shuffled ids."""
    tokenizer = Tokenizer.train([*SOURCES, *TARGETS], 61)
    model = built(Transformer(tokenizer.vocabulary_size, **SIZES))
    other, order = renumber(tokenizer)
    moved = renumber_model(model, order, other.special_ids.pad)
    return Translator(model, tokenizer, DECODING), Translator(moved, other, DECODING)


@pytest.fixture(scope="module")
def with_two():
    """A translator with a source and a target tokenizer over one table of ids."""
    source_model, target_model, table = make_sides()
    source, target = (Tokenizer.from_table(model, table) for model in (source_model, target_model))
    model = built(Transformer(source.vocabulary_size, pad_id=source.special_ids.pad, **SIZES))
    greedy = dataclasses.replace(DECODING, beam_size=1)
    return Translator(model, source, greedy, target_tokenizer=target)


def search(translator, n_best=1):
    """Searches without tracing a graph; returns the target texts and their scores."""
    best = translator.search(translator.to_ids(TEXTS), n_best)
    shape = tf.shape(best.ids)  # [B, K, T]
    texts = translator.target_tokenizer.decode(tf.reshape(best.ids, [-1, shape[2]]))
    return texts.numpy().tolist(), best.scores.numpy()


def assert_same_search(one, other, n_best=1):
    texts, scores = search(one, n_best)
    other_texts, other_scores = search(other, n_best)
    assert texts == other_texts
    np.testing.assert_allclose(scores, other_scores, rtol=1e-4, atol=1e-5)


def test_other_ids_are_searched_and_scored_as_the_usual_ones(both):
    usual, other = both
    assert min(other.tokenizer.special_ids[:4]) > 0
    assert_same_search(other, usual, n_best=3)
    assert_same_search(*(each.with_settings(beam_size=1) for each in (other, usual)))
    scores = [each.score(TEXTS, TEXTS) for each in (other, usual)]
    np.testing.assert_allclose(scores[0]["log_probability"], scores[1]["log_probability"], 1e-4)
    np.testing.assert_array_equal(scores[0]["tokens"], scores[1]["tokens"])


def test_a_training_step_with_other_ids_has_the_usual_loss_and_metrics(both):
    results = []
    for translator in both:
        tokenizer = translator.tokenizer
        sides = (tokenizer.encode_lines(side) for side in (SOURCES[:20], TARGETS[:20]))
        batches = TokenBatches(
            *sides, batch_tokens=480, max_length=24, special_ids=tokenizer.special_ids
        )
        model = translator.model
        copy = built(type(model).from_config({**model.get_config(), "dropout": 0.0}))
        copy.set_weights(model.get_weights())
        training_model = compile_training_model(
            copy, TrainingConfig(epochs=1, warmup_steps=1), steps_per_epoch=1
        )
        training_model.run_eagerly = True
        results.append(training_model.train_on_batch(*next(batches.epoch(0)), return_dict=True))
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-4)


@pytest.mark.long
def test_the_exports_have_the_ids_of_the_tokenizer(both, tmp_path):
    usual, other = both
    expected = usual.translate_texts(TEXTS)["text"].numpy().tolist()
    folder = export_saved_model(other, tmp_path / "saved", signatures=["serving_default"])
    engine = SavedModelEngine(folder)
    assert [text.encode() for text in engine.translate(TEXTS)] == expected
    special = other.tokenizer.special_ids
    described = engine.description.special_ids
    assert described == {
        "start": special.start,
        "end": special.end,
        "pad": special.pad,
        "suppressed": [special.pad, special.start, special.unknown],
    }
    path = export_lite(other, tmp_path / "x.tflite", signatures=["serving_default"])
    assert [text.encode() for text in LiteEngine(path).translate(TEXTS)] == expected


def test_a_shortlist_searches_with_the_places_of_other_ids(both):
    _, other = both
    tokenizer = other.tokenizer
    sides = (tokenizer.encode_lines(side) for side in (SOURCES, TARGETS))
    size, special = tokenizer.vocabulary_size, tokenizer.special_ids
    lexicon = train_lexicon(*sides, size, special_ids=special, frequent=3)
    shortlist = Shortlist(lexicon, size - 1)
    source = other.to_ids(TEXTS)
    chosen = shortlist.choose(source).numpy()
    assert [chosen[i] for i in shortlist.special_ids[:4]] == list(special[:4])
    (left_out,) = np.setdiff1d(np.arange(size), chosen)
    whole, narrow = other.search(source), other.with_settings(shortlist=shortlist).search(source)
    assert left_out not in whole.ids.numpy()
    np.testing.assert_array_equal(narrow.ids, whole.ids)


def test_a_shortlist_with_other_special_ids_is_refused(both):
    usual, other = both
    sides = (usual.tokenizer.encode_lines(side) for side in (SOURCES, TARGETS))
    shortlist = Shortlist(train_lexicon(*sides, usual.model.vocabulary_size), 30)
    with pytest.raises(InputError, match=r"shortlist.*start=2"):
        other.with_settings(shortlist=shortlist)


def test_pruning_keeps_the_padding_of_other_ids(both):
    _, other = both
    run = Run(Config(), other.tokenizer, other.model, {})
    texts = SOURCES[:3]
    pruned = prune_run(run, texts)
    assert pruned.tokenizer.vocabulary_size < run.tokenizer.vocabulary_size
    smaller = Translator(pruned.model, pruned.tokenizer, DECODING)
    assert smaller.model.pad_id == smaller.tokenizer.special_ids.pad != other.model.pad_id
    scores = [each.score(texts, texts)["log_probability"].numpy() for each in (smaller, other)]
    assert (scores[0] >= scores[1] - 1e-4).all()  # Fewer pieces share the probability.


def test_a_mask_is_filled_with_the_same_pieces_whatever_the_ids():
    tokenizer = Tokenizer.train(SOURCES, 60, mask=True)
    model = built(MaskedLanguageModel(tokenizer.vocabulary_size, **SIZES))
    other, order = renumber(tokenizer, keep_last=2)
    moved = renumber_model(model, order, other.special_ids.pad)
    fillers = MaskFiller(model, tokenizer), MaskFiller(moved, other)
    count = len(tokenizer.ordinary_ids)
    usual, shuffled = (filler.fill("two <mask> one", top_k=count) for filler in fillers)
    probabilities = {fill.piece: fill.probability for fill in usual}
    assert {fill.piece for fill in shuffled} == probabilities.keys()
    for fill in shuffled:
        assert fill.probability == pytest.approx(probabilities[fill.piece], rel=1e-4)
    scores = [filler.score(TEXTS)["log_probability"] for filler in fillers]
    np.testing.assert_allclose(*scores, rtol=1e-4)


def test_masked_batches_draw_the_ordinary_ids_of_the_tokenizer():
    tokenizer, _ = renumber(Tokenizer.train(SOURCES, 60, mask=True), keep_last=2)
    special = tokenizer.special_ids
    batches = MaskedBatches(
        tokenizer.encode_lines(SOURCES),
        special_ids=special,
        batch_tokens=480,
        max_length=24,
        masked_share=1.0,
    )
    shown, labels = set(), set()
    for inputs, each in batches.epoch(0):
        shown |= set(inputs["ids"].ravel().tolist())
        labels |= set(each.ravel().tolist())
    ordinary = set(tokenizer.ordinary_ids.tolist())
    assert shown - ordinary == {special.pad, special.end, special.mask}
    assert labels - ordinary == {special.pad}


def test_a_model_with_another_padding_than_its_tokenizer_is_refused(both):
    usual, other = both
    with pytest.raises(InputError, match="pad_id=0"):
        Translator(usual.model, other.tokenizer)


def test_a_translator_encodes_with_one_tokenizer_and_decodes_with_the_other(with_two):
    expected, _ = search(with_two)
    assert with_two.translate_texts(TEXTS)["text"].numpy().tolist() == expected
    assert any(expected)
    tokens = with_two.score(SOURCES[:3], TARGETS[:3])["tokens"].numpy().tolist()
    assert tokens == [len(ids) for ids in with_two.target_tokenizer.encode_lines(TARGETS[:3])]


@pytest.mark.long
def test_both_tokenizers_run_in_a_lite_file(with_two, tmp_path):
    expected = [text.decode() for text in with_two.translate_texts(TEXTS)["text"].numpy()]
    path = export_lite(with_two, tmp_path / "texts.tflite", signatures=["serving_default"])
    assert LiteEngine(path).translate(TEXTS) == expected


@pytest.mark.long
def test_both_tokenizers_run_in_a_saved_model(with_two, tmp_path):
    expected = [text.decode() for text in with_two.translate_texts(TEXTS)["text"].numpy()]
    path = export_saved_model(with_two, tmp_path / "saved", signatures=["serving_default"])
    engine = SavedModelEngine(path)
    assert engine.translate(TEXTS) == expected
    assert engine.description.tokenizer_sha256 == with_two.tokenizer.sha256
    assert engine.description.target_tokenizer_sha256 == with_two.target_tokenizer.sha256


@pytest.mark.long
def test_both_tokenizers_lie_beside_a_file_of_ids(with_two, tmp_path):
    expected = [text.decode() for text in with_two.translate_texts(TEXTS)["text"].numpy()]
    path = export_lite(with_two, tmp_path / "ids.tflite", signatures=["ids"])
    assert LiteEngine(path).translate(TEXTS) == expected
    (tmp_path / "ids.tflite.target_tokenizer.model").unlink()
    with pytest.raises(InputError, match=r"target_tokenizer\.model"):
        LiteEngine(path)


def test_both_tokenizers_are_saved_and_missed(with_two, tmp_path):
    save_task(with_two, tmp_path / "model")
    loaded = ktransformer.load(tmp_path / "model")
    assert [each.sha256 for each in loaded.tokenizers] == [
        each.sha256 for each in with_two.tokenizers
    ]
    assert_same_search(loaded, with_two)
    (tmp_path / "model" / "target_tokenizer.model").unlink()
    for check in (True, False):
        with pytest.raises(InputError, match=r"target_tokenizer\.model is missing"):
            ktransformer.load(tmp_path / "model", check=check)


def test_changing_settings_keeps_both_tokenizers(with_two):
    wider = with_two.with_settings(beam_size=2)
    assert wider.target_tokenizer is with_two.target_tokenizer
    assert with_two.with_model(with_two.model).target_tokenizer is with_two.target_tokenizer
