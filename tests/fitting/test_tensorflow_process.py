"""The process that makes the data of a training on JAX."""

import functools

import numpy as np
import pytest

from ktransformer.errors import InputError
from ktransformer.fitting.mixture import Mixture
from ktransformer.fitting.tensorflow_process import open_data
from ktransformer.fitting.training_data import TrainingData
from tests.fitting.small_training import TEXT, small


@pytest.mark.long
def test_another_process_makes_the_same_batches_and_reports_errors(tmp_path):
    config = small(subword_alpha=0.3, batch_tokens=None)
    read = functools.partial(tuple, (Mixture([TEXT, TEXT], [0.5, 0.5]), TEXT))
    own = TrainingData(read, config, tmp_path, reuse=False, devices=3)
    with open_data(read, config, tmp_path, reuse=False, devices=3) as data:
        assert data.describe() == own.describe()
        found, here = data.encode(None), own.encode(None)
    assert found.config == here.config
    assert found.tokenizers[0] is found.tokenizers[1]
    assert found.tokenizers[0].model == here.tokenizers[0].model
    for epoch in range(2):
        for batch, same in zip(found.batches.epoch(epoch), here.batches.epoch(epoch), strict=True):
            np.testing.assert_equal(batch, same)
    bad = small(vocabulary_size=5)
    with (
        open_data(read, bad, tmp_path, reuse=False, devices=1) as data,
        pytest.raises(InputError, match="vocabulary_size"),
    ):
        data.encode(None)
