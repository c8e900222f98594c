"""What counting alone predicts of a masked token: a unigram and a bigram model."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ktransformer.text import END_ID, START_ID

_WEIGHTS = tuple(2.0**k for k in range(-4, 13))


@dataclasses.dataclass(frozen=True)
class Targets:
    """Tokens to predict, int arrays `[N]`: the piece, and the one to the left of it."""

    left: np.ndarray
    token: np.ndarray

    @classmethod
    def every(cls, lines: Sequence[np.ndarray]) -> "Targets":
        """Takes every token of encoded lines but the end token."""
        left = np.concatenate([[START_ID, *line[:-1]] for line in lines])
        token = np.concatenate(lines)
        return cls(left[token != END_ID], token[token != END_ID])


class Bigrams:
    """Counts of pieces and of pairs of neighbours, made into probabilities.

        unigram: P(w) = (count(w) + a) / (all + a V)
        bigram: P(w | l) = (count(l, w) + b P(w)) / (count(l) + b)

    The fewer a piece was seen, the more its bigrams lean on the unigram. a and b are those of a
    grid that suit the last tenth of the training lines best, when the rest is counted; then all
    lines are counted.

    Args:
        lines: Encoded training lines, the end token included; at least two.
        vocabulary_size: V, the number of ids.

    Reference: MacKay and Peto 1995 (Dirichlet prior).
    """

    def __init__(self, lines: Sequence[np.ndarray], vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        held_out = max(1, len(lines) // 10)
        self._count(Targets.every(lines[:-held_out]))
        targets = Targets.every(lines[-held_out:])
        self.a = self.b = 1.0
        self.a = min(_WEIGHTS, key=lambda a: self._loss_with(targets, a, None))
        self.b = min(_WEIGHTS, key=lambda b: self._loss_with(targets, self.a, b))
        self._count(Targets.every(lines))

    def _count(self, targets: Targets) -> None:
        size = self.vocabulary_size
        self.tokens = np.bincount(targets.token, minlength=size)
        self.lefts = np.bincount(targets.left, minlength=size)
        places, counts = np.unique(targets.left * size + targets.token, return_counts=True)
        self.pairs = dict(zip(places.tolist(), counts.tolist(), strict=True))
        self.followers: dict[int, list[int]] = {}
        for place in places.tolist():
            self.followers.setdefault(place // size, []).append(place % size)

    def _loss_with(self, targets: Targets, a: float, b: float | None) -> float:
        self.a, self.b = a, 1.0 if b is None else b
        probabilities = self.unigram(targets) if b is None else self.bigram(targets)
        return float(-np.log(probabilities).mean())

    def _unigrams(self) -> np.ndarray:
        return (self.tokens + self.a) / (self.tokens.sum() + self.a * self.vocabulary_size)

    def unigram(self, targets: Targets) -> np.ndarray:
        """Returns the probability of each token by its frequency alone, `[N]`."""
        return self._unigrams()[targets.token]

    def bigram(self, targets: Targets) -> np.ndarray:
        """Returns the probability of each token after the piece to its left, `[N]`."""
        places = targets.left.astype(int) * self.vocabulary_size + targets.token
        together = np.array([self.pairs.get(place, 0) for place in places.tolist()])
        seen = self.lefts[targets.left]
        return (together + self.b * self._unigrams()[targets.token]) / (seen + self.b)

    def scores(self, targets: Targets) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Scores both models: the cross-entropy of each token in nats, and whether it is the best.

        Returns:
            `unigram` and `bigram`, two arrays `[N]` each.
        """
        return {
            "unigram": (
                -np.log(self.unigram(targets)),
                self.best_unigram(targets) == targets.token,
            ),
            "bigram": (-np.log(self.bigram(targets)), self.best_bigram(targets) == targets.token),
        }

    def best_unigram(self, targets: Targets) -> np.ndarray:
        """Returns the most probable piece for each token, always the same one, `[N]`."""
        return np.full_like(targets.token, self.tokens.argmax())

    def best_bigram(self, targets: Targets) -> np.ndarray:
        """Returns the most probable piece after the one to the left of each token, `[N]`."""
        unigrams = self._unigrams()
        best = {left: self._best_after(left, unigrams) for left in set(targets.left.tolist())}
        return np.array([best[left] for left in targets.left.tolist()])

    def _best_after(self, left: int, unigrams: np.ndarray) -> int:
        # What never followed `left` has its unigram part alone.
        candidates = [*self.followers.get(left, []), int(unigrams.argmax())]
        size = self.vocabulary_size

        def weight(token: int) -> float:
            return float(self.pairs.get(left * size + token, 0) + self.b * unigrams[token])

        return max(candidates, key=weight)
