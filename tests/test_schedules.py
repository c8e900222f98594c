import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.schedules import InverseSquareRoot

schedules = keras.optimizers.schedules


def test_values_written_by_hand():
    schedule = InverseSquareRoot(0.8, 4)
    # Step n is the update n + 1: a line to 0.8 at the fourth, then 0.8 * sqrt(4 / update).
    expected = {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 15: 0.4, 63: 0.2}
    found = {step: float(schedule(step)) for step in expected}
    assert found == pytest.approx(expected, rel=1e-6)


def test_it_peaks_at_the_end_of_the_warm_up():
    schedule = InverseSquareRoot(3e-3, 50)
    values = [float(schedule(step)) for step in range(200)]
    assert int(np.argmax(values)) == 49
    assert values[49] == pytest.approx(3e-3, rel=1e-6)
    assert (np.diff(values[:50]) > 0).all()
    assert (np.diff(values[49:]) < 0).all()


@pytest.mark.parametrize(("d_model", "warmup_steps"), [(512, 4000), (64, 100)])
def test_noam_is_the_papers_formula(d_model, warmup_steps):
    schedule = InverseSquareRoot.noam(d_model, warmup_steps, scale=2.0)
    for update in 1, 2, warmup_steps - 1, warmup_steps, warmup_steps + 1, 100_000:
        paper = d_model**-0.5 * min(update**-0.5, update * warmup_steps**-1.5)
        assert float(schedule(update - 1)) == pytest.approx(2 * paper, rel=1e-5)


@pytest.mark.parametrize(("d_model", "warmup_steps"), [(0, 100), (512, 0), (512, -1)])
def test_the_paper_s_schedule_of_no_width_or_warm_up_is_refused(d_model, warmup_steps):
    with pytest.raises(ValueError, match=r"d_model.*warmup_steps.*1"):
        InverseSquareRoot.noam(d_model, warmup_steps)


def test_the_paper_warms_up_for_4000_steps():
    assert InverseSquareRoot.noam(512).warmup_steps == 4000


def test_a_step_may_be_an_integer_variable_in_a_graph():
    schedule = InverseSquareRoot(0.8, 4)
    step = tf.Variable(15, dtype=tf.int64)
    assert float(tf.function(lambda: schedule(step))()) == pytest.approx(0.4, rel=1e-6)


def test_one_warm_up_step_starts_at_the_peak():
    assert float(InverseSquareRoot(0.5, 1)(0)) == pytest.approx(0.5)


def test_it_survives_serialization():
    copy = schedules.deserialize(schedules.serialize(InverseSquareRoot(5e-3, 300)))
    assert isinstance(copy, InverseSquareRoot)
    assert (copy.peak, copy.warmup_steps) == (5e-3, 300)


def test_a_saved_model_keeps_the_schedule_of_its_optimizer(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(InverseSquareRoot(0.8, 4)), "mse")
    model.fit(np.ones([8, 2]), np.ones([8, 1]), batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    optimizer = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert int(optimizer.iterations) == 2
    assert float(optimizer.learning_rate) == pytest.approx(0.6, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((0.0, 10), "peak.*[01].*peak=0.0"),
        ((-1.0, 10), "peak.*[01].*peak=-1.0"),
        ((float("nan"), 10), "peak.*[01].*peak=nan"),
        ((0.1, 0), "warmup_steps.*[01].*warmup_steps=0"),
    ],
)
def test_an_argument_out_of_range_is_an_error_that_names_the_rule(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        InverseSquareRoot(*arguments)
