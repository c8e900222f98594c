"""Runs attention a position at a time, as decoding does, and whole, for comparison."""

import keras
import numpy as np

from ktransformer.layers import MaskPenalty, StepContext
from tests.layers.layer_checks import array

# Two hypotheses; at step 2 both continue the first, at step 3 they change places.
PARENTS = ([0, 1], [0, 1], [0, 0], [1, 0])


def stepwise_and_whole(layer, tokens, *, chunked):
    """Decodes tokens `[B, T, K, D]`: the outputs, and those of whole calls.

    Two hypotheses follow `PARENTS`, a single one itself.
    """
    rows, length, beam_size = tokens.shape[:3]
    chunk = 2 if chunked else length
    room = {"beam_size": beam_size, "chunked": chunked}
    cache = layer.empty_cache(rows, chunk, **room)
    penalty = MaskPenalty.all_hidden(rows, chunk, **room)
    histories, stepwise, whole = [[]] * beam_size, [], []
    for index in range(length):
        if chunked and index and index % chunk == 0:
            cache, penalty = cache.flush(), penalty.flush()
        order = PARENTS[index] if beam_size == 2 else [0]
        penalty = keras.tree.map_structure(lambda x, order=order: array(x)[:, order], penalty)
        histories = [[*histories[order[k]], tokens[:, index, k]] for k in range(beam_size)]
        at = StepContext.at(index, penalty)
        outputs, cache = layer.step(tokens[:, index], cache, at)
        penalty = at.penalty
        stepwise.append(array(outputs))
        calls = [array(layer(np.stack(history, axis=1)))[:, -1] for history in histories]
        whole.append(np.stack(calls, axis=1))
    return np.stack(stepwise), np.stack(whole)
