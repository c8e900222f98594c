"""A model small enough to search by hand, and two searches in plain Python."""

import itertools

import numpy as np
import tensorflow as tf

from ktransformer.decoding import SpecialIds

PAD, START, END = 0, 1, 2
SPECIAL = SpecialIds(start=START, end=END, pad=PAD, suppressed=(PAD, START))


class ToyModel:
    """Logits from a random table by sentence, position, the id before the newest, and the newest.

    The id before the newest comes through the state alone, so that a state which is not reordered
    with its hypotheses gives other scores. A call of the step is counted (eagerly).
    """

    def __init__(self, seed, *, sentences=1, positions=6, vocabulary_size=6, scale=2.0):
        shape = (sentences, positions, vocabulary_size, vocabulary_size, vocabulary_size)
        random = np.random.default_rng(seed)
        self.table = (random.normal(size=shape) * scale).astype("float32")
        self.calls = 0

    @property
    def words(self):
        return range(END + 1, self.table.shape[-1])

    def state(self, sentences, beam_size=1):
        rows = tf.repeat(tf.constant(sentences, tf.int32), beam_size)
        return {"sentence": rows, "past": (tf.fill(tf.shape(rows), PAD),)}

    def step(self, ids, index, state):
        self.calls += 1
        (previous,) = state["past"]
        position = tf.fill(tf.shape(ids), index)
        where = tf.stack([state["sentence"], position, previous, ids], axis=1)
        logits = tf.gather_nd(tf.constant(self.table), where)
        return logits, {"sentence": state["sentence"], "past": (ids,)}

    def log_probabilities(self, sentence, ids):
        """What the step function gives after `ids`, as log-probabilities in float64."""
        previous, newest = [PAD, START, *ids][-2:]
        logits = self.table[sentence, len(ids), previous, newest].astype("float64")
        return logits - np.log(np.exp(logits).sum())

    def log_probability(self, sentence, ids):
        return sum(self.log_probabilities(sentence, ids[:i])[ids[i]] for i in range(len(ids)))


def brute_force(model, sentence, limit, *, n_best, length_penalty):
    """Scores every sequence that ends within the limit: `[(score, ids), ...]`, best first."""
    every = [
        [*words, END]
        for length in range(limit)
        for words in itertools.product(model.words, repeat=length)
    ]
    scored = [
        (model.log_probability(sentence, ids) / len(ids) ** length_penalty, ids) for ids in every
    ]
    return sorted(scored, reverse=True)[:n_best]


def plain_beam_search(
    model,
    sentence,
    limit,
    *,
    beam_size,
    n_best,
    length_penalty,
    bounded=True,
    early_stopping=True,
    score_forced_end=True,
):
    """The rule of `beam_search` for one sentence, with lists.

    Returns:
        `[(score, ids), ...]`, best first, and how many steps it took. Without `bounded` it goes on
        although no live hypothesis can win.
    """
    live, finished = [(0.0, [])], []
    for length in range(1, limit + 1):
        allowed = [END] if length == limit else [END, *model.words]
        candidates = []
        for total, ids in live:
            gains = model.log_probabilities(sentence, ids)
            if length == limit and not score_forced_end:
                gains = 0 * gains
            candidates += [(total + gains[token], [*ids, token]) for token in allowed]
        candidates.sort(reverse=True)
        for total, ids in candidates[:beam_size]:
            if ids[-1] == END:
                finished.append((total / length**length_penalty, ids))
        finished.sort(reverse=True)
        live = [(total, ids) for total, ids in candidates if ids[-1] != END][:beam_size]
        if length == limit or (early_stopping and len(finished) >= beam_size):
            break
        if not early_stopping:
            # The best live one, as if it ended at its length, against the worst of K finished.
            worst = finished[beam_size - 1][0] if len(finished) >= beam_size else -np.inf
            if worst >= live[0][0] / length**length_penalty:
                break
            continue
        best_possible = live[0][0] / limit**length_penalty
        if bounded and len(finished) >= n_best and finished[n_best - 1][0] >= best_possible:
            break
    return finished[:n_best], length


def unpack(hypotheses, row):
    """The hypotheses of one sentence: `[(score, ids), ...]`, ids without padding."""
    ids, scores, lengths, _ = (tensor[row].numpy() for tensor in hypotheses)
    return [
        (float(scores[k]), ids[k, : lengths[k]].tolist()) for k in range(len(scores)) if lengths[k]
    ]


def assert_same_hypotheses(found, expected):
    assert [ids for _, ids in found] == [ids for _, ids in expected]
    np.testing.assert_allclose(
        [score for score, _ in found], [score for score, _ in expected], rtol=1e-5, atol=1e-5
    )
