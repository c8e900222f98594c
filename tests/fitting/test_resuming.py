import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.fitting import Resume, open_state, train
from ktransformer.text import Tokenizer
from tests.fitting.small_training import (
    EVERY_UPDATE,
    STEPS,
    TEXT,
    CutAfter,
    CutError,
    SpoilAfter,
    assert_same,
    small,
    state_of,
)

MUON = {
    "accumulate_batches": 3,
    "subword_alpha": 0.3,
    "patience": 1,
    "optimizer": "muon",
    "output_bias": True,
}
HALF = {
    "dtype": "mixed_float16",
    "remat": True,
    "rdrop_alpha": 1.0,
    "schedule": "cosine",
    "bleu_sentences": 200,
}


@pytest.mark.parametrize(
    ("cuts", "settings"),
    [
        ([2 + STEPS], MUON),
        pytest.param([2, 0, 2 + STEPS], MUON, marks=pytest.mark.long),
        pytest.param([2, 0, 2 + STEPS], HALF, marks=pytest.mark.long),
    ],
)
def test_a_training_that_was_cut_ends_as_if_it_had_not_been(cuts, settings, tmp_path):
    config = small(**EVERY_UPDATE, **settings)
    whole = train(config, TEXT, TEXT, checkpoints=tmp_path / "whole")
    cut = tmp_path / "cut"
    for updates in cuts:
        with pytest.raises(CutError):
            train(
                config, TEXT, TEXT, checkpoints=cut, start=Resume(), callbacks=[CutAfter(updates)]
            )
    run = train(config, TEXT, TEXT, checkpoints=cut, start=Resume())
    assert_same(state_of(cut), state_of(tmp_path / "whole"))
    assert_same(run.model.get_weights(), whole.model.get_weights())
    assert run.history == whole.history


@pytest.mark.long
def test_a_weighted_training_that_was_cut_ends_as_if_it_had_not_been(tmp_path):
    text = dataclasses.replace(TEXT, weights=[0.1, 1, 2] * 8)
    config = small(**{**EVERY_UPDATE, "subword_alpha": 0.3, "epochs": 2})
    whole = train(config, text, checkpoints=tmp_path / "whole")
    cut = tmp_path / "cut"
    with pytest.raises(CutError):
        train(config, text, checkpoints=cut, callbacks=[CutAfter(2)])
    with pytest.raises(InputError, match="other text"):
        train(config, TEXT, checkpoints=cut, start=Resume())
    run = train(config, text, checkpoints=cut, start=Resume())
    assert_same(run.model.get_weights(), whole.model.get_weights())
    assert run.history == whole.history


def test_a_training_that_is_over_is_not_gone_on_with(tmp_path):
    config = small(**EVERY_UPDATE, learning_rate=1e-12, patience=1)
    first = train(config, TEXT, TEXT, checkpoints=tmp_path)
    again = train(config, TEXT, TEXT, checkpoints=tmp_path, start=Resume())
    assert again.history == first.history
    assert len(first.history["loss"]) == 2
    assert_same(again.model.get_weights(), first.model.get_weights())


@pytest.mark.long
def test_more_epochs_go_on_where_fewer_ended(tmp_path):
    long, short = (small(**{**EVERY_UPDATE, "epochs": epochs}) for epochs in (4, 2))
    whole = train(long, TEXT, checkpoints=tmp_path / "whole")
    train(short, TEXT, checkpoints=tmp_path / "short")
    more = train(long, TEXT, checkpoints=tmp_path / "short", start=Resume())
    assert more.history == whole.history
    assert_same(more.model.get_weights(), whole.model.get_weights())


@pytest.mark.parametrize("epochs", [1, 2])
def test_fewer_epochs_than_are_done_are_refused(epochs, tmp_path):
    done, fewer = (small(**{**EVERY_UPDATE, "epochs": count}) for count in (3, epochs))
    train(done, TEXT, checkpoints=tmp_path)
    with pytest.raises(InputError) as error:
        train(fewer, TEXT, checkpoints=tmp_path, start=Resume())
    assert str(error.value) == f"epochs must be at least the 3 that are done; got {epochs}."


@pytest.mark.parametrize("accumulate_batches", [1, 3])
def test_weights_that_are_no_numbers_leave_the_last_good_state(accumulate_batches, tmp_path):
    config = small(**EVERY_UPDATE, accumulate_batches=accumulate_batches)
    with pytest.raises(InputError, match=r"update 7.*learning_rate"):
        train(config, TEXT, checkpoints=tmp_path, callbacks=[SpoilAfter(7)])
    head, *arrays = state_of(tmp_path)
    assert json.loads(head.tobytes())["update"] == 6
    assert all(np.isfinite(array).all() for array in arrays)


def test_a_training_that_goes_on_elsewhere_says_how_the_places_differ(tmp_path, caplog):
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    train(config, TEXT, checkpoints=tmp_path)
    state = tmp_path / "training.npz"
    head, *arrays = state_of(tmp_path)
    saved = json.loads(head.tobytes())
    assert saved["environment"]["tensorflow"] == tf.__version__
    caplog.clear()
    open_state(tmp_path, config, saved["about"], resume=True)
    assert not [r for r in caplog.records if r.levelname == "WARNING"]
    saved["environment"] |= {"intra_op_threads": 3, "keras": "2.0"}
    np.savez(state, np.frombuffer(json.dumps(saved).encode(), "uint8"), *arrays)
    open_state(tmp_path, config, saved["about"], resume=True)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    assert f"intra_op_threads=3 before, {threads} now" in warning
    assert f"keras=2.0 before, {keras.__version__} now" in warning


@pytest.mark.long
def test_what_is_chosen_from_the_text_is_compared_when_a_training_goes_on(tmp_path):
    # Three updates an epoch: a warm-up of 1 is chosen, and a cosine that ends with the third.
    chosen = small(epochs=3, learning_rate=None, optimizer=None, warmup_steps=None)
    train(chosen, TEXT, checkpoints=tmp_path)
    for settings, message in (
        ({"warmup_steps": 2}, "warmup_steps=1.*warmup_steps=2"),
        ({"schedule": "inverse_square_root"}, "optimizer='muon'.*optimizer='adam'"),
        ({"epochs": 4}, "epochs=3.*epochs=4"),
    ):
        with pytest.raises(InputError, match=message):
            train(chosen.replace(settings), TEXT, checkpoints=tmp_path, start=Resume())
    same = train(chosen.replace({"warmup_steps": 1}), TEXT, checkpoints=tmp_path, start=Resume())
    assert len(same.history["loss"]) == 3


@pytest.mark.parametrize(
    ("settings", "text", "message"),
    [
        ({"dropout": 0.3}, TEXT, "dropout=0.2.*dropout=0.3"),
        (
            {"optimizer": "muon"},
            TEXT,
            "optimizer='adam'.*optimizer='muon'",
        ),
        ({"patience": 1}, TEXT, "patience=None.*patience=1"),
        ({"seed": 7}, TEXT, "seed=1.*seed=7"),
        ({}, type(TEXT)(TEXT.sources[:-3], TEXT.targets[:-3], 0), "other text"),
    ],
)
def test_another_training_is_not_gone_on_with(settings, text, message, after_an_epoch):
    config = small(**{**EVERY_UPDATE, **settings})
    with pytest.raises(InputError, match=message):
        train(config, text, TEXT, checkpoints=after_an_epoch, start=Resume())


def test_a_training_from_before_an_option_goes_on_where_that_has_its_default(
    after_an_epoch, tmp_path
):
    head, *arrays = state_of(after_an_epoch)
    content = json.loads(head.tobytes())
    del content["about"]["config"]["training"]["weight_decay"]
    np.savez(
        tmp_path / "training.npz", np.frombuffer(json.dumps(content).encode(), "uint8"), *arrays
    )
    about = {key: content["about"][key] for key in ("text", "validation")}
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    assert open_state(tmp_path, config, about, resume=True).update == STEPS
    with pytest.raises(InputError, match=r"weight_decay=0\.0.*weight_decay=0\.9"):
        open_state(tmp_path, config.replace({"weight_decay": 0.9}), about, resume=True)


def test_a_training_with_another_tokenizer_is_not_gone_on_with(
    after_an_epoch, tmp_path, monkeypatch
):
    shutil.copytree(after_an_epoch, tmp_path / "c")
    monkeypatch.setattr(Tokenizer, "sha256", "of another version of SentencePiece")
    with pytest.raises(InputError, match="another tokenizer"):
        train(small(**EVERY_UPDATE), TEXT, TEXT, checkpoints=tmp_path / "c", start=Resume())


@pytest.mark.long
def test_the_progress_of_an_epoch_that_goes_on_counts_all_epochs(tmp_path, capfd):
    config = small(**EVERY_UPDATE)
    with pytest.raises(CutError):
        train(config, TEXT, checkpoints=tmp_path, callbacks=[CutAfter(STEPS + 2)])
    capfd.readouterr()
    train(config, TEXT, checkpoints=tmp_path, start=Resume())
    lines = capfd.readouterr().err.splitlines()
    numbers = [line for line in lines if line.startswith("Epoch")]
    assert numbers == [f"Epoch {number}/5" for number in (2, 3, 4, 5)]


def test_a_training_from_other_kinds_of_batches_is_not_gone_on_with(after_an_epoch):
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    with pytest.raises(InputError, match="other ids"):
        open_state(after_an_epoch, config, {"ids": "these"}, resume=True)


def test_a_cosine_schedule_ends_where_it_was_to_end(tmp_path):
    config = small(**{**EVERY_UPDATE, "epochs": 1, "schedule": "cosine"})
    train(config, TEXT, checkpoints=tmp_path)
    with pytest.raises(InputError, match=r"epochs=1.*epochs=2"):
        train(config.replace({"epochs": 2}), TEXT, checkpoints=tmp_path, start=Resume())
