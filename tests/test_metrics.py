import keras
import numpy as np
import pytest
import tensorflow as tf

from ktransformer.metrics import Perplexity, TokenAccuracy


def make_batches(count=3, vocabulary_size=6):
    """Batches of different sizes, with different numbers of padded labels."""
    random = np.random.default_rng(0)
    batches = []
    for i in range(count):
        shape = (2 + i, 3 + i)
        labels = random.integers(0, vocabulary_size, size=shape).astype("int32")
        logits = random.normal(size=(*shape, vocabulary_size)).astype("float32") * 2
        batches.append((labels, logits))
    return batches


def real_tokens(batches, pad_id=0):
    labels = np.concatenate([labels.ravel() for labels, _ in batches])
    logits = np.concatenate([logits.reshape(-1, logits.shape[-1]) for _, logits in batches])
    real = labels != pad_id
    return labels[real], logits[real].astype("float64")


def expected_accuracy(batches, **options):
    labels, logits = real_tokens(batches, **options)
    return (logits.argmax(-1) == labels).mean()


def expected_perplexity(batches, **options):
    labels, logits = real_tokens(batches, **options)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return np.exp(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def feed(metric, batches, **options):
    for labels, logits in batches:
        metric.update_state(tf.constant(labels), tf.constant(logits), **options)
    return float(metric.result())


CASES = pytest.mark.parametrize(
    ("metric", "expected"),
    [(TokenAccuracy, expected_accuracy), (Perplexity, expected_perplexity)],
)


@CASES
def test_several_batches_count_as_all_their_real_tokens(metric, expected):
    batches = make_batches()
    assert feed(metric(), batches) == pytest.approx(expected(batches), rel=1e-5)


@CASES
def test_another_padding_id_is_left_out_instead(metric, expected):
    batches = make_batches()
    assert feed(metric(pad_id=2), batches) == pytest.approx(expected(batches, pad_id=2), rel=1e-5)


@CASES
def test_a_reset_forgets_what_was_seen(metric, expected):
    batches = make_batches()
    fed = metric()
    feed(fed, batches[:1])
    fed.reset_state()
    assert feed(fed, batches[1:]) == pytest.approx(expected(batches[1:]), rel=1e-5)


@CASES
def test_a_mask_handed_in_as_weights_changes_nothing(metric, expected):
    batches = make_batches(1)
    weights = tf.zeros_like(batches[0][0], tf.float32)
    found = feed(metric(), batches, sample_weight=weights)
    assert found == pytest.approx(expected(batches), rel=1e-5)


@CASES
def test_it_works_in_a_graph(metric, expected):
    fed = metric()
    update = tf.function(fed.update_state, reduce_retracing=True)
    batches = make_batches()
    for labels, logits in batches:
        update(tf.constant(labels), tf.constant(logits))
    assert float(fed.result()) == pytest.approx(expected(batches), rel=1e-5)


@CASES
def test_it_survives_serialization(metric, expected):
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric(pad_id=2, name="other")))
    assert isinstance(copy, metric)
    assert (copy.pad_id, copy.name) == (2, "other")


def test_an_accuracy_written_by_hand():
    labels = tf.constant([[2, 1, 0], [1, 0, 0]])
    logits = tf.one_hot([[2, 2, 0], [1, 0, 1]], 3)  # Right, wrong, padding; right, padding twice.
    assert feed(TokenAccuracy(), [(labels, logits)]) == pytest.approx(2 / 3)


def test_uniform_logits_have_the_vocabulary_as_perplexity():
    assert feed(Perplexity(), [(np.ones([2, 3], "int32"), np.zeros([2, 3, 9], "float32"))]) == (
        pytest.approx(9, rel=1e-5)
    )


@pytest.mark.parametrize(("metric", "expected"), [(TokenAccuracy, 0), (Perplexity, 1)])
def test_without_a_real_token_the_result_is_finite(metric, expected):
    batch = (np.zeros([2, 3], "int32"), np.ones([2, 3, 4], "float32"))
    assert feed(metric(), [batch]) == expected
