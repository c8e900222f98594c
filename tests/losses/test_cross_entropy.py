import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.losses import (
    SmoothedCrossEntropy,
    smoothed_cross_entropy,
    token_weights,
)
from tests.losses.small_batch import SMOOTHINGS, make_batch, plain_losses


@pytest.mark.parametrize("label_smoothing", SMOOTHINGS)
def test_each_position_follows_the_plain_formula(label_smoothing):
    labels, logits = make_batch()
    found = smoothed_cross_entropy(labels, logits, label_smoothing)
    np.testing.assert_allclose(found, plain_losses(labels, logits, label_smoothing), rtol=1e-5)


def test_a_case_written_by_hand():
    logits = np.array([[[np.log(3.0), 0.0], [np.log(3.0), 0.0]]], "float32")  # 3/4 and 1/4.
    labels = np.array([[0, 1]])
    np.testing.assert_allclose(
        smoothed_cross_entropy(labels, logits), [[0.2876821, 1.3862944]], rtol=1e-5
    )
    # The target is (0.9, 0.1), then (0.1, 0.9).
    np.testing.assert_allclose(
        smoothed_cross_entropy(labels, logits, 0.2), [[0.3975433, 1.2764331]], rtol=1e-5
    )


@pytest.mark.parametrize("label_smoothing", SMOOTHINGS)
def test_the_gradient_is_that_of_the_plain_formula(label_smoothing):
    labels, logits = make_batch()
    logits = tf.constant(logits)
    upstream = tf.random.stateless_normal(labels.shape, [1, 2])
    size = logits.shape[-1]
    target = (1 - label_smoothing) * tf.one_hot(labels, size) + label_smoothing / size
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(logits)
        found = smoothed_cross_entropy(labels, logits, label_smoothing) * upstream
        plain = -tf.reduce_sum(target * tf.nn.log_softmax(logits), axis=-1) * upstream
    np.testing.assert_allclose(
        tape.gradient(found, logits), tape.gradient(plain, logits), atol=1e-6
    )


def test_a_gradient_written_by_hand():
    logits = tf.constant([[[np.log(3.0), 0.0]]], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = smoothed_cross_entropy(tf.constant([[1]]), logits, 0.2)
    # (3/4, 1/4) less (0.1, 0.9).
    np.testing.assert_allclose(tape.gradient(loss, logits), [[[0.65, -0.65]]], rtol=1e-5)


def test_large_logits_stay_finite():
    logits = tf.constant([[[3e4, -3e4, 0.0]]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = smoothed_cross_entropy(tf.constant([[1]]), logits, 0.1)
    np.testing.assert_allclose(loss, [[0.9 * 6e4 + 0.1 * 3e4]], rtol=1e-5)
    # (1, 0, 0) less the target, (1/30, 28/30, 1/30).
    expected = [[[29 / 30, -28 / 30, -1 / 30]]]
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, rtol=1e-5)


@pytest.mark.parametrize("label_smoothing", SMOOTHINGS)
def test_the_loss_is_the_mean_over_real_tokens(label_smoothing):
    labels, logits = make_batch()
    found = SmoothedCrossEntropy(label_smoothing)(labels, logits)
    losses = plain_losses(labels, logits, label_smoothing)
    assert float(found) == pytest.approx(losses[labels != 0].mean(), rel=1e-5)


def test_padded_positions_change_nothing():
    labels, logits = make_batch()
    loss = SmoothedCrossEntropy()
    expected = loss(labels, logits)
    logits[labels == 0] = np.random.default_rng(9).normal(size=(4, 7)) * 100
    longer = np.pad(labels, [(0, 2), (0, 3)])
    wider = np.pad(logits, [(0, 2), (0, 3), (0, 0)], constant_values=7.0)
    assert float(loss(labels, logits)) == float(expected)
    assert float(loss(longer, wider)) == pytest.approx(float(expected), rel=1e-6)


def test_padded_positions_get_no_gradient_and_real_ones_do():
    labels, logits = make_batch()
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = SmoothedCrossEntropy()(labels, logits)
    size = np.abs(tape.gradient(loss, logits)).sum(-1)
    np.testing.assert_array_equal(size > 0, labels != 0)


def test_padding_alone_has_no_loss_and_a_zero_gradient():
    logits = tf.constant(make_batch()[1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = SmoothedCrossEntropy()(tf.zeros([3, 5], tf.int32), logits)
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros([3, 5, 7]))


def test_another_padding_id_is_left_out_instead():
    labels, logits = make_batch()
    found = SmoothedCrossEntropy(0.1, pad_id=3)(labels, logits)
    expected = plain_losses(labels, logits, 0.1)[labels != 3].mean()
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_half_precision_logits_are_summed_in_float32(dtype):
    labels, logits = make_batch()
    half = tf.cast(logits, dtype)
    with tf.GradientTape() as tape:
        tape.watch(half)
        loss = SmoothedCrossEntropy()(labels, half)
    rounded = tf.cast(half, tf.float32).numpy()
    expected = plain_losses(labels, rounded, 0.1)[labels != 0].mean()
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    gradient = tape.gradient(loss, half)
    assert gradient.dtype == dtype
    assert np.isfinite(tf.cast(gradient, tf.float32)).all()


def test_compiled_by_xla_it_gives_the_same_loss_and_gradient():
    labels, logits = map(tf.constant, make_batch())

    def loss_and_gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = SmoothedCrossEntropy()(labels, logits)
        return loss, tape.gradient(loss, logits)

    found = tf.function(loss_and_gradient, jit_compile=True)(labels, logits)
    expected = loss_and_gradient(labels, logits)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_graph_takes_every_batch_shape(jit_compile):
    signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None, 7], tf.float32)]
    graph = tf.function(
        SmoothedCrossEntropy().__call__, input_signature=signature, jit_compile=jit_compile
    )
    for shape in (3, 5), (4, 6):
        labels, logits = make_batch(shape=shape)
        expected = SmoothedCrossEntropy()(labels, logits)
        np.testing.assert_allclose(graph(labels, logits), expected, rtol=1e-5)


def test_sample_weights_count_tokens_or_whole_sentences():
    labels, logits = make_batch()
    losses = plain_losses(labels, logits, 0.1)
    of_sentences = np.array([1.0, 0.5, 2.0], "float32")
    of_tokens = np.random.default_rng(1).uniform(size=labels.shape).astype("float32")
    of_little = of_sentences / 1000
    for given in of_sentences, of_tokens, of_little:
        weights = (labels != 0) * (given[:, None] if given.ndim == 1 else given)
        found = SmoothedCrossEntropy()(labels, logits, given)
        expected = (losses * weights).sum() / weights.sum()
        assert float(found) == pytest.approx(expected, rel=1e-5)


def test_token_weights_are_one_for_real_tokens_and_zero_for_padding():
    weights = token_weights(np.array([[5, 3, 0], [0, 0, 0]]), 0)
    np.testing.assert_array_equal(weights, [[1, 1, 0], [0, 0, 0]])


def test_it_survives_serialization():
    loss = SmoothedCrossEntropy(0.2, pad_id=4)
    copy = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(copy, SmoothedCrossEntropy)
    assert (copy.label_smoothing, copy.pad_id, copy.name) == (0.2, 4, "smoothed_cross_entropy")


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range_is_an_error_that_names_the_rule(label_smoothing):
    rule = f"label_smoothing.*={label_smoothing}"
    with pytest.raises(ValueError, match=rule):
        SmoothedCrossEntropy(label_smoothing)
