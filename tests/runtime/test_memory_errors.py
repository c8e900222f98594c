import jax
import pytest
import tensorflow as tf

from ktransformer.runtime.memory_errors import memory_errors

LARGE = 1 << 46  # Bytes.


def fill_on_jax():
    jax.numpy.zeros(LARGE, "uint8").block_until_ready()


def fill_on_tensorflow():
    tf.zeros(LARGE, "uint8")


@pytest.mark.parametrize("fill", [fill_on_jax, fill_on_tensorflow])
def test_too_little_memory_is_a_memory_error(fill):
    with pytest.raises(MemoryError, match=f"{LARGE}"), memory_errors():
        fill()


def test_keras_words_around_the_error_of_jax_are_left_out():
    reason = "RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."
    with pytest.raises(MemoryError) as caught, memory_errors():
        raise RuntimeError(f"Exception encountered when calling A.\n\n\x1b[1m{reason}\x1b[0m\n\nB")
    assert str(caught.value) == reason


def test_another_error_stays_as_it_is():
    error = RuntimeError("INTERNAL: of another kind")
    with pytest.raises(RuntimeError) as caught, memory_errors():
        raise error
    assert caught.value is error
