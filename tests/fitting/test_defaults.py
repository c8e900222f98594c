import pytest

from ktransformer.config import DataConfig, TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import (
    Fit,
    choose_batch_tokens,
    choose_fit,
    choose_vocabulary_size,
    count_updates,
    longest_warmup,
)


@pytest.mark.parametrize(
    ("characters", "alphabet", "pieces"),
    [
        (30_000, 150, 693),  # 1,000 pairs of dates.
        (136_000, 40, 1475),  # 1,000 pairs of Multi30k,
        (3_970_000, 60, 7970),  # and all 29,000.
        (90_000_000, 60, 8000),
        (900, 60, 300),
        (900, 400, 800),
        (90_000_000, 6000, 12_000),  # Every character needs a piece.
    ],
)
def test_the_vocabulary_grows_with_the_root_of_the_text(characters, alphabet, pieces):
    assert choose_vocabulary_size(DataConfig(), characters, alphabet) == pieces


@pytest.mark.parametrize(
    ("tokens", "max_length", "batch_tokens"),
    [
        (18_000, 256, 512),
        (72_000, 256, 1024),
        (520_000, 256, 2048),
        (3_900_000, 256, 4096),
        (10**9, 256, 4096),
        (0, 256, 512),
        (18_000, 5000, 5000),  # The longest pair needs a batch.
    ],
)
def test_batches_grow_with_the_root_of_the_text(tokens, max_length, batch_tokens):
    assert choose_batch_tokens(DataConfig(), tokens, max_length) == batch_tokens


@pytest.mark.parametrize(
    ("steps", "epochs", "warmup_steps", "average_checkpoints"),
    [(25, 100, 250, 5), (80, 50, 400, 5), (250, 16, 400, 1), (1000, 4, 400, 1), (9000, 3, 1000, 1)],
)
def test_a_training_has_some_thousands_of_updates(steps, epochs, warmup_steps, average_checkpoints):
    assert choose_fit(TrainingConfig(), steps_per_epoch=steps, d_model=128) == Fit(
        epochs, "muon", 0.004, "cosine", warmup_steps, average_checkpoints
    )


def test_what_is_set_stays():
    set_all = TrainingConfig(
        epochs=7,
        optimizer="adam",
        learning_rate=0.5,
        schedule="cosine",
        warmup_steps=3,
        average_checkpoints=6,
    )
    found = choose_fit(set_all, steps_per_epoch=9, d_model=128)
    assert found == Fit(7, "adam", 0.5, "cosine", 3, 6)
    data = DataConfig(vocabulary_size=77, batch_tokens=333)
    assert choose_vocabulary_size(data, 10**6, 50) == 77
    assert choose_batch_tokens(data, 10**6, 256) == 333


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"learning_rate": 0.01}, ("adam", "inverse_square_root", 0.01)),
        ({"optimizer": "muon"}, ("muon", "inverse_square_root", 0.002)),
        ({"schedule": "cosine"}, ("adam", "cosine", 0.002)),
    ],
)
def test_optimizer_schedule_and_learning_rate_are_chosen_together(settings, expected):
    fit = choose_fit(TrainingConfig(**settings), steps_per_epoch=100, d_model=128)
    assert (fit.optimizer, fit.schedule, fit.learning_rate) == expected


def test_adam_is_chosen_where_muon_does_not_run():
    fit = choose_fit(TrainingConfig(), steps_per_epoch=100, d_model=128, can_use_muon=False)
    assert (fit.optimizer, fit.schedule, fit.learning_rate) == ("adam", "cosine", 0.002)


def test_a_wider_model_has_a_lower_learning_rate():
    assert choose_fit(TrainingConfig(), steps_per_epoch=9, d_model=512).learning_rate == 0.002


def test_accumulated_batches_make_fewer_updates():
    fit = choose_fit(TrainingConfig(accumulate_batches=4), steps_per_epoch=1000, d_model=128)
    assert (fit.epochs, fit.warmup_steps) == (16, 400)


def test_the_warm_up_is_at_most_a_quarter():
    assert [longest_warmup(updates) for updates in (1, 4, 300)] == [1, 1, 75]


def test_a_training_without_an_update_is_refused():
    assert count_updates(3, 5, 15) == 1
    with pytest.raises(InputError, match=r"accumulate_batches.*15.*16"):
        count_updates(3, 5, 16)
