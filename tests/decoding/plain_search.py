"""A search in plain Python whose rules change lists of logits, and a model for it."""

import numpy as np
import pytest

from ktransformer.decoding import StepFunctionModel
from tests.decoding.toy_model import END, PAD, SPECIAL, START, ToyModel

LIMITS = [10, 3, 1, 5, 9, 7]
EXCLUDED = -np.inf


def minimum_length(logits, ids, *, length=4):
    return [EXCLUDED if i == END and len(ids) + 1 < length else x for i, x in enumerate(logits)]


def repetition(logits, ids, *, penalty=1.7):
    return [
        (x / penalty if x > 0 else x * penalty) if i in ids and x > EXCLUDED else x
        for i, x in enumerate(logits)
    ]


class PlainSearch:
    """Searches for one sentence with rules on lists of logits."""

    def __init__(self, model, sentence, limit, changes, prefix=()):
        self.model, self.sentence, self.limit = model, sentence, limit
        self.changes, self.prefix = changes, list(prefix)

    def gains(self, ids):
        """The ranking gain of each allowed token, and the model's own: {token: (rank, own)}."""
        whole = [*self.prefix, *ids]
        own = self.model.log_probabilities(self.sentence, whole)
        previous, newest = [PAD, START, *whole][-2:]
        logits = self.model.table[self.sentence, len(whole), previous, newest].tolist()
        changed = [EXCLUDED if i in SPECIAL.suppressed else x for i, x in enumerate(logits)]
        for change in self.changes:
            given = ids if change is minimum_length else whole
            changed = change(changed, given)
        allowed = [i for i, x in enumerate(changed) if x > EXCLUDED]
        if len(ids) + 1 == self.limit or not allowed:
            return {END: (own[END], own[END])}
        share = np.log(sum(np.exp(own[i]) for i in allowed))
        norm = np.log(sum(np.exp(changed[i]) for i in allowed))
        return {i: (changed[i] - norm + share, own[i]) for i in allowed}

    def greedy(self):
        ids, total = [], 0.0
        while END not in ids:
            gains = self.gains(ids)
            best = max(gains, key=lambda token: gains[token][0])
            ids, total = [*ids, best], total + gains[best][1]
        return ids, total

    def beam(self, beam_size, score, *, added=lambda ids: 0.0, bounded=True):
        """The ids and the model's log-probability of the best by `score(total, length) + added`.

        Without `bounded` it goes on although no live hypothesis can win.
        """
        live, finished = [(0.0, 0.0, [])], []
        for length in range(1, self.limit + 1):
            candidates = [
                (total + rank, own_total + own, [*ids, token])
                for total, own_total, ids in live
                for token, (rank, own) in self.gains(ids).items()
            ]
            candidates.sort(reverse=True)
            finished += [
                (score(total, length) + added(ids), own, ids)
                for total, own, ids in candidates[:beam_size]
                if ids[-1] == END
            ]
            finished.sort(reverse=True)
            live = [found for found in candidates if found[2][-1] != END][:beam_size]
            if len(finished) >= beam_size or not live:
                break
            if bounded and finished and finished[0][0] >= score(live[0][0], self.limit):
                break
        return finished[0][2], finished[0][1]


def assert_finds(found, row, expected, *, added=0.0):
    ids, total = expected
    length = int(found.lengths[row, 0])
    assert found.ids[row, 0, :length].numpy().tolist() == ids
    assert (found.ids[row, 0, length:].numpy() == PAD).all()
    assert found.log_probabilities[row, 0].numpy() == pytest.approx(total, rel=1e-4, abs=1e-4)
    score = total / length + added
    assert found.scores[row, 0].numpy() == pytest.approx(score, rel=1e-4, abs=1e-4)


def make_model(seed, *, sentences=6, scale=1.5):
    """A model that writes long sequences, so that tokens repeat."""
    model = ToyModel(seed, sentences=sentences, positions=12, scale=scale)
    model.table[..., END] -= 2.0
    return model


def start(model, beam_size=1):
    rows = range(len(model.table))
    return StepFunctionModel(model.step, model.state(rows, beam_size))
