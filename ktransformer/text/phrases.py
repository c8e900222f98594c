"""Finds given words and phrases in texts, in a graph, with operations that LiteRT has, too."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.text.character_classes import CharacterClass, character_classes, is_one_of
from ktransformer.text.code_points import CodePoints, row_ids

_CASED = 0x600  # Behind it, few scripts have small and capital letters.
_NONE = -1  # No code point.


class _Matches(NamedTuple):
    """Places where a phrase occurs, P in all.

    Attributes:
        starts: Int32 `[P]`, the place of the first character among those of all texts.
        phrases: Int32 `[P]`, which phrase it is.
        lengths: Int32 `[P]`, in characters.
        exact: Boolean `[P]`, whether the case is the phrase's.
    """

    starts: tf.Tensor
    phrases: tf.Tensor
    lengths: tf.Tensor
    exact: tf.Tensor


def find_phrases(texts: CodePoints, phrases: CodePoints) -> tf.Tensor:
    """Finds which phrases occur in which texts, as whole words.

    The case must be the phrase's; the first letter of a text may be a capital instead. Where
    phrases overlap, the longest counts, then the first of them, then the one listed first. Words
    are of letters, marks and digits; a phrase may begin or end at any character of a script without
    spaces. An empty phrase occurs nowhere.

    Args:
        texts: The characters of B texts.
        phrases: The characters of n phrases, at least 1.

    Returns:
        Boolean `[B, n]`.
    """
    found: tf.Tensor = _find_phrases(*texts, *phrases)
    return found


@tf.function(input_signature=[tf.TensorSpec([None], tf.int32)] * 6, autograph=False)
def _find_phrases(*tensors: tf.Tensor) -> tf.Tensor:
    """Finds the phrases; one function, for a graph that calls it more than once."""
    texts, phrases = CodePoints(*tensors[:3]), CodePoints(*tensors[3:])
    matches = _find_matches(texts, phrases)
    chosen = tf.where(_longest_first(matches, texts, phrases))[:, 0]
    rows = tf.gather(row_ids(texts.row_splits), tf.gather(matches.starts, chosen))
    places = tf.stack([rows, tf.gather(matches.phrases, chosen)], axis=1)
    shape = tf.stack([tf.shape(texts.row_splits)[0] - 1, tf.shape(phrases.row_splits)[0] - 1])
    return tf.scatter_nd(places, tf.ones_like(rows), shape) > 0


def _find_matches(texts: CodePoints, phrases: CodePoints) -> _Matches:
    """Finds the places of all phrases: candidates by sums of code points, then exactly."""
    size, rows = tf.shape(texts.points)[0], row_ids(texts.row_splits)
    begins = _word_edges(texts.points, rows)  # [N + 1]
    places = tf.cast(tf.where(begins[:-1])[:, 0], tf.int32)  # [W]
    text_ends = tf.gather(texts.row_splits, tf.gather(rows, places) + 1)
    first_of_text = tf.equal(tf.gather(texts.row_splits, tf.gather(rows, places)), places)
    lowered = _lower(tf.gather(texts.points, places))
    gain = tf.where(first_of_text, lowered - tf.gather(texts.points, places), 0)  # [W]

    lengths = phrases.row_splits[1:] - phrases.row_splits[:-1]  # [n]
    sums, phrase_sums = _sums(texts.points), _sums(phrases.points)
    wanted = tf.gather(phrase_sums, phrases.row_splits)
    wanted = wanted[1:] - wanted[:-1]  # [n]
    ends = places[:, None] + lengths  # [W, n]
    whole = (lengths > 0) & (ends <= text_ends[:, None])
    ends = tf.minimum(ends, size)
    found = tf.gather(sums, ends) - tf.gather(sums, places)[:, None]
    alike = (found == wanted) | (found + gain[:, None] == wanted)
    candidates = tf.cast(tf.where(whole & alike & tf.gather(begins, ends)), tf.int32)  # [P, 2]

    word, phrase = candidates[:, 0], candidates[:, 1]
    starts, lengths = tf.gather(places, word), tf.gather(lengths, phrase)
    offsets = _offsets(phrases)  # [L]
    read = _gather_points(texts.points, starts[:, None] + offsets)
    other = _gather_points(phrases.points, tf.gather(phrases.row_splits, phrase)[:, None] + offsets)
    equal = (read == other) | (offsets >= lengths[:, None])
    capital = (read + tf.gather(gain, word)[:, None] == other) & (offsets == 0)
    same = tf.where(tf.reduce_all(equal | capital, axis=1))[:, 0]
    return _Matches(
        starts=tf.gather(starts, same),
        phrases=tf.gather(phrase, same),
        lengths=tf.gather(lengths, same),
        exact=tf.gather(tf.reduce_all(equal, axis=1), same),
    )


def _word_edges(points: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Returns where no word goes on from the character before: boolean `[N + 1]`."""
    classes = character_classes(points)
    is_word = is_one_of(classes, *WORD_CLASSES)
    before = tf.concat([[False], is_word], axis=0)[:-1]
    row_before = tf.concat([[_NONE], rows], axis=0)[:-1]
    return tf.concat([~(is_word & before & (rows == row_before)), [True]], axis=0)


WORD_CLASSES = (
    CharacterClass.UPPER,
    CharacterClass.LOWER,
    CharacterClass.LETTER,
    CharacterClass.MARK,
    CharacterClass.DIGIT,
)
"""The classes of the characters that words consist of, in scripts with spaces between words."""


def _longest_first(matches: _Matches, texts: CodePoints, phrases: CodePoints) -> tf.Tensor:
    """Chooses matches that do not overlap, the longest first: boolean `[P]`.

    In each round, a match is chosen if it comes first in every character that it covers.
    """
    count, size = tf.shape(matches.starts)[0], tf.shape(texts.points)[0]
    order = tf.math.top_k(2 * matches.lengths + tf.cast(matches.exact, tf.int32), count).indices
    priority = tf.scatter_nd(order[:, None], count - tf.range(count), tf.reshape(count, [1]))
    offsets = _offsets(phrases)
    covered = offsets < matches.lengths[:, None]  # [P, L]
    places = tf.where(covered, matches.starts[:, None] + offsets, size)

    def best_of(values: tf.Tensor) -> tf.Tensor:
        """Returns for each covered character the greatest value of the matches: `[P] -> [P, L]`."""
        spread = tf.where(covered, values[:, None], 0)
        best = tf.math.unsorted_segment_max(
            tf.reshape(spread, [-1]), tf.reshape(places, [-1]), size + 1
        )
        return tf.gather(best, places)

    def choose(undecided: tf.Tensor, chosen: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        own = tf.where(undecided, priority, 0)
        wins = undecided & tf.reduce_all((best_of(own) == own[:, None]) | ~covered, axis=1)
        taken = tf.reduce_any(covered & (best_of(tf.cast(wins, tf.int32)) > 0), axis=1)
        return undecided & ~taken, chosen | wins

    start = tf.fill(tf.shape(matches.starts), True), tf.fill(tf.shape(matches.starts), False)
    return tf.while_loop(
        lambda undecided, chosen: tf.reduce_any(undecided),
        choose,
        start,
        shape_invariants=(tf.TensorShape([None]), tf.TensorShape([None])),
    )[1]


def _sums(points: tf.Tensor) -> tf.Tensor:
    """Returns the sums of the code points before each place; they may wrap: `[N] -> [N + 1]`."""
    return tf.concat([[0], tf.cumsum(points)], axis=0)


def _offsets(phrases: CodePoints) -> tf.Tensor:
    """Returns 0, 1, ... up to the longest phrase: int32 `[L]`, L at least 1."""
    lengths = phrases.row_splits[1:] - phrases.row_splits[:-1]
    return tf.range(tf.reduce_max(tf.concat([lengths, [1]], axis=0)))


def _gather_points(points: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the code points at places, `_NONE` behind the last."""
    padded = tf.concat([points, [_NONE]], axis=0)
    return tf.gather(padded, tf.minimum(places, tf.shape(points)[0]))


def _lower(points: tf.Tensor) -> tf.Tensor:
    """Returns the small letters of capital ones, and other code points as they are."""
    lower = [chr(point).lower() for point in range(_CASED)]
    table = np.array([ord(each) if len(each) == 1 else i for i, each in enumerate(lower)], np.int32)
    inside = points < _CASED
    return tf.where(inside, tf.gather(tf.constant(table), tf.where(inside, points, 0)), points)
