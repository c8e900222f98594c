"""The decoder's cache for loops that XLA compiles."""

import numpy as np
import pytest
import tensorflow as tf

from tests.small_translator import drawn_translator

BEAM, POSITIONS = 2, 6


def steps(model, source, ids, parents, *, sliced):
    """Returns the logits of each step, `[T, B * K, V]`, of a reordered beam."""
    memory = model.prepare_memory(source)
    room = 2 if sliced else POSITIONS
    state = model.empty_state(source.shape[0], room, beam_size=BEAM)
    if sliced:
        state = state.sliced()
    logits = []
    for index in range(POSITIONS):
        if sliced and index == 2:
            state = state.grow(POSITIONS - room)
        recent = tf.gather(state.penalty.recent, parents[index], batch_dims=1)
        state = state._replace(penalty=state.penalty._replace(recent=recent))
        found, state = model.step(ids[index], index, state, memory)
        logits.append(found.numpy())
    return np.stack(logits)


@pytest.mark.parametrize(
    "options", [{}, {"num_kv_heads": 2}, {"positions": "rotary"}, {"positions": "relative"}]
)
def test_a_sliced_cache_that_grows_gives_the_same_logits(options):
    model = drawn_translator(**options).model
    random = np.random.default_rng(1)
    source = tf.constant(random.integers(4, 40, [3, 5]), tf.int32)
    ids = tf.constant(random.integers(4, 40, [POSITIONS, 3 * BEAM]), tf.int32)
    parents = tf.constant(random.integers(0, BEAM, [POSITIONS, 3, BEAM]), tf.int32)
    found, expected = (
        steps(model, source, ids, parents, sliced=sliced) for sliced in (True, False)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
