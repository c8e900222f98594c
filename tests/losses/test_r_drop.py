import numpy as np
import pytest

from ktransformer.losses import (
    RDrop,
    SmoothedCrossEntropy,
)
from tests.losses.small_batch import make_batch


def probabilities(logits):
    exponentials = np.exp(logits.astype("float64"))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_r_drop_adds_the_divergences_between_the_halves():
    labels, first = make_batch(seed=1)
    _, second = make_batch(seed=2)
    p, q = probabilities(first), probabilities(second)
    divergence = ((p * np.log(p / q)).sum(-1) + (q * np.log(q / p)).sum(-1)) / 2
    real = labels != 0
    twice, logits = np.concatenate([labels, labels]), np.concatenate([first, second])
    expected = SmoothedCrossEntropy(0.1)(twice, logits) + 5 / 2 * divergence[real].mean()
    np.testing.assert_allclose(RDrop(0.1, alpha=5.0)(twice, logits), expected, rtol=1e-5)


def test_r_drop_of_equal_halves_is_the_cross_entropy():
    labels, logits = make_batch()
    twice = np.concatenate([labels, labels]), np.concatenate([logits, logits])
    expected = SmoothedCrossEntropy(0.1)(labels, logits)
    np.testing.assert_allclose(RDrop(0.1, alpha=5.0)(*twice), expected, rtol=1e-6)


def test_r_drop_is_restored_from_its_config():
    loss = RDrop.from_config(RDrop(0.2, alpha=3.0, pad_id=1).get_config())
    assert (loss.label_smoothing, loss.alpha, loss.pad_id) == (0.2, 3.0, 1)
    with pytest.raises(ValueError, match=r"alpha.*0.*alpha=-1"):
        RDrop(alpha=-1)
