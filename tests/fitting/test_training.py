import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting import (
    LastCheckpoints,
    average_checkpoints,
    fit_model,
    open_state,
    train,
)
from ktransformer.fitting.board import keep_gradient_norm
from ktransformer.layers import EncoderBlock, MultiHeadSelfAttention
from ktransformer.losses import RDrop, SmoothedCrossEntropy
from ktransformer.models import Transformer
from ktransformer.saving.run import load_run
from ktransformer.text import ParallelText, TokenBatches
from tests.fitting.small_training import TEXT, small


class SetWeights(keras.callbacks.Callback):
    """Stands in for training: the weights of epoch n are n everywhere."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.set_weights([np.full(w.shape, epoch, "float32") for w in self.model.weights])


def test_the_average_is_over_the_last_epochs_only(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.0
    keeper = LastCheckpoints(tmp_path / "checkpoints", keep=3)
    data = np.zeros((4, 2)), np.zeros((4, 3))
    model.fit(*data, epochs=6, callbacks=[SetWeights(), keeper], verbose=0)
    # The oldest would go when the next epoch begins.
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4
    average_checkpoints(model, keeper.last(3, 6))
    for weight in model.get_weights():
        np.testing.assert_allclose(weight, 4.0)  # (3 + 4 + 5) / 3


def test_a_mean_over_weights_that_are_missing_is_refused(tmp_path):
    keeper = LastCheckpoints(tmp_path, keep=2)
    keeper.path(3).touch()
    with pytest.raises(InputError, match=r"epoch-0002\.npz"):
        keeper.last(2, 3)


def test_training_learns_and_keeps_its_history(run_folder):
    history = load_run(run_folder).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["val_perplexity"][-1] < 1.5
    assert history["val_bleu"][-1] >= 0
    assert history["val_chrf"][-1] > 90
    assert history["val_exact_match"][-1] > 0.9
    assert len(history["loss"]) == 20


def test_a_loaded_run_is_the_run_that_was_saved(run_folder):
    first, second = load_run(run_folder), load_run(run_folder)
    for a, b in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    description = json.loads((run_folder / "model.json").read_text())
    assert first.config == Config.from_dict(description["config"])


@pytest.mark.long
def test_the_same_seed_gives_the_same_weights(tmp_path):
    def weights(seed: int) -> list[np.ndarray]:
        return train(small(seed=seed), TEXT, checkpoints=tmp_path / "c").model.get_weights()

    first, second, other = weights(1), weights(1), weights(2)
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


def test_training_stops_when_validation_no_longer_improves(tmp_path):
    # A learning rate that changes nothing: the first epoch stays the best.
    config = small(epochs=30, patience=2, learning_rate=1e-12)
    run = train(config, TEXT, TEXT, checkpoints=tmp_path / "c")
    assert len(run.history["loss"]) == 3


class Record(keras.callbacks.Callback):
    """Keeps every epoch's weights."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights())


def test_where_the_mean_is_worse_the_last_epoch_is_kept_and_both_are_said(tmp_path, caplog):
    # The first epochs of a training that begins: their mean is behind the last one.
    config = small(epochs=4, average_checkpoints=4, learning_rate=0.01, bleu_sentences=3)
    caplog.set_level("INFO", "ktransformer")
    record = Record()
    run = train(config, TEXT, TEXT, checkpoints=tmp_path, callbacks=[record])
    for weight, expected in zip(run.model.get_weights(), record.weights[-1], strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)
    assert run.history["final_averaged_epochs"] == [1.0]
    for name in ("val_perplexity", "val_loss", "val_bleu"):
        assert run.history[f"final_{name}"] == run.history[name][-1:]
    for words in ("last 4 epochs", "weights of epoch 4", "Kept: epoch 4"):
        assert words in caplog.text
    assert caplog.text.count("val_perplexity") == 2


def test_a_mean_that_is_better_is_kept_with_its_own_figures(tmp_path):
    # A learning rate so high that the weights go to and fro: their mean is ahead of each.
    config = small(epochs=8, average_checkpoints=4, learning_rate=0.1, dropout=0.0)
    record = Record()
    run = train(config, TEXT, TEXT, checkpoints=tmp_path, callbacks=[record])
    assert run.history["final_averaged_epochs"] == [4.0]
    assert run.history["final_val_perplexity"][0] < run.history["val_perplexity"][-1]
    for weight, *last in zip(run.model.get_weights(), *record.weights[-4:], strict=True):
        np.testing.assert_allclose(weight, np.mean(last, axis=0), rtol=1e-4, atol=1e-6)


def test_a_warm_up_of_more_than_a_quarter_of_the_training_is_cut(tmp_path, caplog):
    config = small(epochs=4, warmup_steps=1000)  # 4 epochs of 3 updates.
    run = train(config, TEXT, checkpoints=tmp_path)
    assert run.config.training.warmup_steps == 3
    assert "warmup_steps=1000 is cut to 3" in caplog.text


def test_a_run_says_what_was_chosen_from_its_text(tmp_path, caplog):
    caplog.set_level("INFO", "ktransformer")
    nulls = dict.fromkeys(("vocabulary_size", "batch_tokens", "learning_rate", "optimizer"))
    config = small(**nulls, epochs=2, warmup_steps=None, average_checkpoints=None)
    run = train(config, TEXT, checkpoints=tmp_path)
    assert (run.config.data.vocabulary_size, run.config.data.batch_tokens) == (300, 512)
    training = run.config.training
    assert (training.optimizer, training.schedule, training.learning_rate) == (
        "muon",
        "cosine",
        0.004,
    )
    assert (training.warmup_steps, training.average_checkpoints) == (1, 1)
    assert "vocabulary_size=300, batch_tokens=512" in caplog.text
    assert "optimizer=muon, learning_rate=0.004, schedule=cosine, warmup_steps=1" in caplog.text


@pytest.mark.parametrize("patience", [0, 2])
def test_with_patience_the_average_ends_at_the_best_epoch(patience, tmp_path):
    # A learning rate so high that validation gets worse again.
    sizes = {"learning_rate": 0.3, "warmup_steps": 1, "average_checkpoints": 1}
    config = small(epochs=30, patience=patience, **sizes)
    record = Record()
    run = train(config, TEXT, TEXT, checkpoints=tmp_path / "c", callbacks=[record])
    best = int(np.argmin(run.history["val_perplexity"]))
    assert best == len(record.weights) - 1 - max(patience, 1)
    assert run.history["final_val_perplexity"] == [min(run.history["val_perplexity"])]
    for weight, expected in zip(run.model.get_weights(), record.weights[best], strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-6)


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    config = small(learning_rate=1e30, warmup_steps=1, epochs=5)
    with pytest.raises(InputError, match=r"update \d+.*learning_rate"):
        train(config, TEXT, checkpoints=tmp_path / "c")


class Halved(MultiHeadSelfAttention):
    def compute_scores(self, query, key, positions):
        return super().compute_scores(query, key, positions) / 2


class HalvedBlock(EncoderBlock):
    def make_self_attention(self):
        return Halved(self.num_heads)


class HalvedTransformer(Transformer):
    def make_encoder_block(self):
        return HalvedBlock(**self.block_arguments())


def test_a_subclass_comes_back_from_a_training_as_itself(tmp_path):
    config = small(epochs=1)
    sizes = dataclasses.asdict(config.model)
    model = HalvedTransformer(30, **sizes)
    model.build()
    ids = [np.array([5, 6, 7, 3]), np.array([8, 9, 3])] * 4
    fitted = fit_model(
        model,
        config.training,
        TokenBatches(ids, ids, batch_tokens=64, max_length=8),
        state=open_state(tmp_path, config, {}, resume=False),
    )
    assert type(fitted.model) is HalvedTransformer
    batch = {"source": ids[0][None], "target": ids[0][None]}
    np.testing.assert_allclose(fitted.model(batch), model(batch), atol=1e-5)


def test_what_does_not_go_together_is_said_before_text_is_encoded(tmp_path):
    with pytest.raises(InputError, match="positions"):
        train(small(positions="foo"), ParallelText([], [], 0), checkpoints=tmp_path)


@pytest.mark.parametrize("settings", [{"activation": "glu"}, {"positions": "sinus"}])
def test_settings_that_fail_only_when_the_model_is_called_are_refused_at_once(settings, tmp_path):
    with pytest.raises(InputError) as error:
        train(small(**settings), ParallelText([], [], 0), checkpoints=tmp_path)
    assert next(iter(settings)) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("accumulate_batches", [7, 1000])
def test_to_accumulate_more_batches_than_there_are_is_refused(accumulate_batches, tmp_path):
    config = small(epochs=2, accumulate_batches=accumulate_batches)  # 2 epochs of 3 batches.
    with pytest.raises(InputError, match=f"accumulate_batches.*6.*{accumulate_batches}"):
        train(config, TEXT, checkpoints=tmp_path)


def test_patience_needs_validation_text(tmp_path):
    with pytest.raises(InputError, match=r"patience.*validation"):
        train(small(patience=1), TEXT, checkpoints=tmp_path / "c")


def test_tensorboard_shows_speed_gradients_translations_and_their_attention(tmp_path):
    text = ParallelText(["one two"] * 200, ["1 2"] * 200, empty=0)
    valid = ParallelText(["one two", "$two | one"], ["1 2", "2 1"], empty=0)
    config = small(tensorboard=str(tmp_path / "logs"), bleu_sentences=2)
    train(config, text, valid, checkpoints=tmp_path / "c")
    seen = {
        value.tag: value.tensor
        for file in (tmp_path / "logs").rglob("events.out.tfevents*")
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        for value in event_pb2.Event.FromString(record).summary.value
    }
    assert {"epoch_loss", "epoch_learning_rate", "attention/01", "attention/02"} <= seen.keys()
    assert {"learning_rate", "tokens_per_second"} <= seen.keys()
    assert tf.make_ndarray(seen["gradient_norm"]) > 0
    table = tf.make_ndarray(seen["translations"]).item().decode()
    first, second = table.splitlines()[2:]
    assert first.startswith("| one two | ")
    assert first.endswith(" | 1 2 |")
    assert second.startswith("| $two \\| one | ")


def test_the_gradient_norm_is_that_before_clipping_and_changes_no_update():
    def fit(keep: bool) -> tuple[list[np.ndarray], float]:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
        model.set_weights([np.array([[1.0], [2.0]])])
        model.compile(keras.optimizers.SGD(0.1, global_clipnorm=0.5), "mse")
        norm = keep_gradient_norm(model.optimizer) if keep else 0.0
        model.fit(np.array([[3.0, 4.0]]), np.array([[1.0]]), verbose=0)
        return model.get_weights(), float(keras.ops.convert_to_numpy(norm))

    (with_norm, norm), (without, _) = fit(True), fit(False)
    np.testing.assert_array_equal(with_norm, without)
    assert norm == pytest.approx(2 * (3 + 8 - 1) * 5)  # 2 * error * |inputs|.


@pytest.mark.parametrize(
    "dtype", [pytest.param("mixed_bfloat16", marks=pytest.mark.long), "mixed_float16"]
)
def test_mixed_precision_trains(dtype, tmp_path):
    settings = {"dtype": dtype, "epochs": 12, "learning_rate": 0.01, "warmup_steps": 5}
    losses = train(small(**settings), TEXT, checkpoints=tmp_path / "c").history["loss"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.long
def test_two_batches_accumulated_make_the_update_of_one_twice_as_large(tmp_path):
    # The batches of two epochs hold the same pairs: their mean gradient is that of either.
    settings = {"dropout": 0.0, "batch_tokens": 512, "epochs": 4, "bucket_step": 16}
    settings["average_checkpoints"] = 1
    whole = train(small(**settings), TEXT, checkpoints=tmp_path / "whole")
    halves = {**settings, "accumulate_batches": 2, "epochs": 8}
    accumulated = train(small(**halves), TEXT, checkpoints=tmp_path / "halves")
    assert len(whole.history["loss"]) == len(accumulated.history["loss"]) / 2
    for a, b in zip(whole.model.get_weights(), accumulated.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


@pytest.mark.long
def test_r_drop_draws_two_passes_together(tmp_path):
    def divergence(alpha: float) -> float:
        settings = {"dropout": 0.3, "epochs": 12, "learning_rate": 0.01, "warmup_steps": 5}
        run = train(small(rdrop_alpha=alpha, **settings), TEXT, checkpoints=tmp_path)
        assert run.history["loss"][-1] < 0.9 * run.history["loss"][0]
        ids = run.tokenizer.encode(tf.constant(TEXT.targets)).to_tensor()
        twice = tf.concat([ids, ids], axis=0)
        logits = run.model({"source": twice, "target": twice}, training=True)
        return float(RDrop(alpha=4.0)(twice, logits) - SmoothedCrossEntropy()(twice, logits))

    assert 0 < divergence(5.0) < 0.5 * divergence(0.01)
