import numpy as np
import pytest
import tensorflow as tf

from ktransformer.losses import (
    projected_losses,
    smoothed_cross_entropy,
    token_weights,
)
from tests.losses.small_batch import SMOOTHINGS


def make_projection(shape, width=8, vocabulary_size=11, seed=0):
    """Labels, a third of them padding, hidden states and a table."""
    random = np.random.default_rng(seed)
    labels = random.integers(1, vocabulary_size, size=shape) * (random.random(shape) > 0.3)
    hidden = random.normal(size=(*shape, width)).astype("float32")
    table = random.normal(size=(vocabulary_size, width)).astype("float32")
    return labels.astype("int32"), tf.constant(hidden), tf.constant(table)


@pytest.mark.parametrize("shape", [(3, 5), (8, 64), (60, 31)])  # A chunk is of 512 positions.
@pytest.mark.parametrize("label_smoothing", SMOOTHINGS)
@pytest.mark.parametrize("biased", [False, True])
def test_projected_losses_are_those_of_the_logits_and_so_are_the_gradients(
    biased, label_smoothing, shape
):
    labels, hidden, table = make_projection(shape)
    weights = token_weights(labels, 0)
    bias = tf.linspace(-2.0, 3.0, len(table)) if biased else None
    watched = [hidden, table, bias] if biased else [hidden, table]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(watched)
        found = projected_losses(hidden, table, labels, weights, label_smoothing, bias=bias)
        logits = hidden @ tf.transpose(table)
        logits = logits + bias if biased else logits
        expected = tf.reduce_sum(smoothed_cross_entropy(labels, logits, label_smoothing) * weights)
        scaled, expected_scaled = 3 * found[0], 3 * expected
    plain = tf.reduce_sum(smoothed_cross_entropy(labels, logits) * weights)
    right = tf.reduce_sum(weights * tf.cast(tf.argmax(logits, -1) == labels, tf.float32))
    np.testing.assert_allclose(found, [expected, plain, right], rtol=1e-5)
    for of in watched:
        np.testing.assert_allclose(
            tape.gradient(scaled, of), tape.gradient(expected_scaled, of), rtol=1e-4, atol=1e-4
        )


def test_projected_losses_of_padding_alone_are_zero_and_so_are_the_gradients():
    labels, hidden, table = make_projection((2, 3))
    labels = np.zeros_like(labels)
    with tf.GradientTape() as tape:
        tape.watch([hidden, table])
        loss = projected_losses(hidden, table, labels, token_weights(labels, 0))[0]
    assert float(loss) == 0
    for gradient in tape.gradient(loss, [hidden, table]):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


def test_projected_losses_without_gradients_are_the_same():
    labels, hidden, table = make_projection((60, 31))
    weights = token_weights(labels, 0)
    expected = projected_losses(hidden, table, labels, weights, 0.1)
    found = projected_losses(hidden, table, labels, weights, 0.1, differentiable=False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gradients_of_well_learned_labels_keep_their_digits(dtype):
    labels = np.arange(1, 41, dtype="int32")
    table = np.random.default_rng(1).normal(size=(50, 64))
    table = tf.cast(3 * table / np.linalg.norm(table, axis=1, keepdims=True), dtype)
    hidden = tf.gather(table, labels)  # Each is nearest to its own label.
    with tf.GradientTape() as tape:
        tape.watch([hidden, table])
        losses = projected_losses(hidden[None], table, labels[None], np.ones((1, 40), "float32"))
    logits = tf.cast(hidden @ tf.transpose(table), "float32")
    residuals = tf.nn.softmax(logits) - tf.one_hot(labels, 50)
    assert float(tf.reduce_max(tf.abs(residuals))) < 0.2
    expected = (
        residuals @ tf.cast(table, "float32"),
        tf.transpose(residuals) @ tf.cast(hidden, "float32"),
    )
    for found, right in zip(tape.gradient(losses[0], [hidden, table]), expected, strict=True):
        assert float(tf.norm(tf.cast(found, "float32") - right) / tf.norm(right)) < 0.01


def test_projected_losses_of_half_precision_are_summed_in_float32():
    labels, hidden, table = make_projection((60, 31))
    weights = token_weights(labels, 0)
    half = tf.cast(hidden, tf.bfloat16), tf.cast(table, tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(half)
        loss = projected_losses(*half, labels, weights, 0.1)[0]
    expected = projected_losses(hidden, table, labels, weights, 0.1)[0]
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-2)
    assert [gradient.dtype for gradient in tape.gradient(loss, half)] == [tf.bfloat16] * 2
