import re

import keras
import numpy as np
import pytest

from ktransformer.fitting.reporting import ReportProgress


@pytest.fixture
def report(caplog):
    """Fits a small model to batches of one row; returns what was logged."""

    def fit(batches: int, **options) -> list[str]:
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        callback = ReportProgress(batches, 10.0, **options)
        data = np.zeros((batches - options.get("done", 0), 1))
        caplog.set_level("INFO", "ktransformer")
        model.fit(data, data, batch_size=1, verbose=0, callbacks=[callback])
        return [r.getMessage() for r in caplog.records if r.name.startswith("ktransformer")]

    return fit


def test_the_time_that_a_training_will_take_is_said_after_20_batches(report):
    (line,) = report(30)
    assert re.fullmatch(r"20 batches took \d+ s; the training will take about \d+ s more\.", line)


def test_in_a_pipe_progress_is_said_every_so_many_seconds(report):
    lines = report(5, interval_seconds=0.0, done=2)
    assert [line[:13] for line in lines[:1] + lines[-1:]] == ["batch 4 of 5,", "batch 5 of 5,"]
    assert all(
        re.search(r"loss \d\.\d+, [\d,]+ tokens a second, \d+ s left", line) for line in lines
    )


def test_no_line_comes_before_its_time(report):
    assert len(report(40, interval_seconds=1000.0)) == 1
