import time

import tensorflow as tf

from ktransformer.text.without_autotune import without_autotune


def test_an_iterator_that_was_used_for_a_while_ends_at_once():
    dataset = without_autotune(tf.data.Dataset.range(10**9).map(lambda x: x + 1).prefetch(2))
    for _ in range(
        4
    ):  # A tuner would sleep for a second by now, most times; see `without_autotune`.
        iterator = iter(dataset)
        begin = time.perf_counter()
        while time.perf_counter() < begin + 1.3:
            next(iterator)
        begin = time.perf_counter()
        del iterator
        assert time.perf_counter() - begin < 0.5


def test_all_other_options_stay():
    options = tf.data.Options()
    options.deterministic = False
    found = without_autotune(tf.data.Dataset.range(3).with_options(options)).options()
    assert found.autotune.enabled is False
    assert found.deterministic is False
