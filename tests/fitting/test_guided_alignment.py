"""Training that guides attention heads to a statistical alignment."""

import keras
import numpy as np
import pytest

from ktransformer.config import Config, TrainingConfig
from ktransformer.engines import ModelEngine
from ktransformer.errors import InputError
from ktransformer.fitting import Resume, compile_training_model, train
from ktransformer.fitting.guided_training_model import GuidedTrainingModel
from ktransformer.losses import guided_alignment_loss
from ktransformer.models import CausalLanguageModel
from ktransformer.tasks import Translator
from ktransformer.text import ParallelText
from tests.fitting.small_training import (
    EVERY_UPDATE,
    STEPS,
    TEXT,
    CutAfter,
    CutError,
    assert_same,
    small,
    state_of,
)
from tests.fitting.small_transformer import make_batch, make_model

GUIDED = {"guided_alignment": 0.5, "guided_heads": 1}
LETTERS, DIGITS = ["a", "b", "c", "d", "e", "f", "g", "h"], ["1", "2", "3", "4", "5", "6", "7", "8"]


def reversed_text(pairs: int, seed: int) -> ParallelText:
    """Letters, and a digit for each in reverse order: the diagonal says nothing."""
    random = np.random.default_rng(seed)
    rows = [random.permutation(8)[: random.integers(3, 7)] for _ in range(pairs)]
    sources = [" ".join(LETTERS[i] for i in row) for row in rows]
    return ParallelText(sources, [" ".join(DIGITS[i] for i in row[::-1]) for row in rows], empty=0)


def with_inputs(batch, alignment):
    inputs, labels = batch
    return {**inputs, "alignment": alignment}, labels


def test_the_loss_is_the_mean_cross_entropy_of_aligned_tokens():
    alignment = np.array([[[1, 0, 0], [0, 0.5, 0.5], [0, 0, 0]]], np.float32)
    weights = np.array([[[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [1, 0, 0]]], np.float32)
    expected = -(np.log(0.5) + np.log(0.25)) / 2
    assert float(guided_alignment_loss(alignment, weights)) == pytest.approx(expected, rel=1e-5)
    assert float(guided_alignment_loss(0 * alignment, weights)) == 0


def test_the_training_s_loss_is_that_of_the_text_plus_the_weighted_alignment():
    inputs, labels = make_batch()
    shape = (*labels.shape, inputs["source"].shape[1])
    alignment = np.random.default_rng(0).uniform(size=shape).astype("float32")
    plain, guided = (
        compile_training_model(make_model(dropout=0.0), TrainingConfig(guided_alignment=weight))
        for weight in (0.0, 0.25)
    )
    assert type(plain) is not GuidedTrainingModel
    without = plain.evaluate(inputs, labels, return_dict=True, verbose=0)
    found = guided.evaluate({**inputs, "alignment": alignment}, labels, return_dict=True, verbose=0)
    assert found["perplexity"] == pytest.approx(without["perplexity"], rel=1e-4)
    assert found["alignment"] > 0.1
    expected = without["loss"] + 0.25 * found["alignment"]
    assert found["loss"] == pytest.approx(expected, rel=1e-4)


def test_a_keras_file_holds_the_guided_heads(tmp_path):
    model = compile_training_model(make_model(), TrainingConfig(guided_alignment=0.25))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert type(loaded) is GuidedTrainingModel
    names = ("layer", "heads", "alignment_weight")
    assert [getattr(loaded, name) for name in names] == [getattr(model, name) for name in names]


@pytest.fixture(scope="module")
def shares(tmp_path_factory) -> dict[float, float]:
    """The share of right links on other text, by the weight of the alignment's loss."""
    text, other = reversed_text(150, seed=1), reversed_text(40, seed=2)
    sizes = {"num_layers": 2, "d_model": 32, "hidden_dim": 32, "num_heads": 2, "max_length": 16}
    short = {"vocabulary_size": 30, "epochs": 20, "batch_tokens": 256, "bleu_sentences": 0}
    found = {}
    for weight in (0.0, 0.5):
        config = Config().replace({**sizes, **short, "guided_alignment": weight})
        run = train(config, text, other, checkpoints=tmp_path_factory.mktemp("guided"))
        engine = ModelEngine(Translator(run.model, run.tokenizer, run.config.decoding))
        annotations = engine.annotate(other.sources, other.targets)
        right = total = 0
        for annotation in annotations:
            length = len(annotation.source.split())
            links = {(i, length - 1 - i) for i in range(length)}
            right, total = right + len(links & set(annotation.words)), total + length
        found[weight] = right / total
        decoding = run.config.decoding
        guided = (decoding.alignment_layer, decoding.alignment_heads, decoding.alignment_shift)
        assert guided == ((0, 1, True) if weight else (None, None, False))
        assert ("val_alignment" in run.history) == (weight > 0)
    return found


@pytest.mark.long
def test_guided_heads_align_what_others_do_not(shares):
    assert shares[0.5] > 0.9
    assert shares[0.0] < 0.7


@pytest.mark.long
def test_a_guided_training_that_was_cut_ends_as_if_it_had_not_been(tmp_path):
    config = small(**{**EVERY_UPDATE, "epochs": 2}, **GUIDED)
    whole = train(config, TEXT, TEXT, checkpoints=tmp_path / "whole")
    cut = tmp_path / "cut"
    with pytest.raises(CutError):
        train(config, TEXT, TEXT, checkpoints=cut, callbacks=[CutAfter(1 + STEPS)])
    run = train(config, TEXT, TEXT, checkpoints=cut, start=Resume())
    assert_same(state_of(cut), state_of(tmp_path / "whole"))
    assert_same(run.model.get_weights(), whole.model.get_weights())
    assert run.history == whole.history


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guided_layer": 5}, "guided_layer.* 0 .*5"),
        ({"guided_heads": 3}, "guided_heads.* 2 .*3"),
        ({"rdrop_alpha": 1.0}, "rdrop_alpha.*guided_alignment=0.5"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_the_text_is_read(settings, message, tmp_path):
    with pytest.raises(InputError, match=message):
        train(small(**{**GUIDED, **settings}), TEXT, checkpoints=tmp_path)


def test_a_model_without_a_source_has_no_heads_to_guide():
    model = CausalLanguageModel(13, num_layers=1, d_model=16, num_heads=2, hidden_dim=16)
    with pytest.raises(InputError, match=r"guided_alignment.*CausalLanguageModel"):
        compile_training_model(model, TrainingConfig(guided_alignment=0.5))
