"""Finds the stops of texts, with the quotes and brackets that close behind them."""

# ruff: noqa: RUF001

from typing import NamedTuple

import tensorflow as tf

from ktransformer.text.character_classes import CharacterClass, is_any_of, is_one_of
from ktransformer.text.joined_lines import JoinedLines, before, behind, count

_NOTE_DIGITS = 3  # Of the number of a footnote.


class Tails(NamedTuple):
    """The C ends of sentences that are possible: stops, with the quotes and brackets behind them.

    Attributes:
        first: Int32 `[C]`, the place of the first terminal character.
        last: Int32 `[C]`, the place of the last terminal character, quote or bracket.
        plain: Bool `[C]`, the only terminal character is a full stop.
        wide: Bool `[C]`, it ends a sentence even if a letter follows at once.
        quoted: Bool `[C]`, quotes or brackets stand behind it.
    """

    first: tf.Tensor
    last: tf.Tensor
    plain: tf.Tensor
    wide: tf.Tensor
    quoted: tf.Tensor


def find_tails(lines: JoinedLines) -> Tails:
    """Finds the stops behind which a sentence may end."""
    classes = lines.classes
    white = is_one_of(classes, CharacterClass.SPACE, CharacterClass.LINE_BREAK)
    stop = tf.equal(classes, CharacterClass.STOP) & (~before(white) | behind(white))
    exclamation = tf.equal(classes, CharacterClass.EXCLAMATION)
    wide = tf.equal(classes, CharacterClass.WIDE_STOP)
    terminal = stop | exclamation | wide | tf.equal(classes, CharacterClass.ELLIPSIS)
    guillemet = tf.equal(lines.points, ord("»")) & before(white) & behind(white)  # In French.
    closing = is_one_of(classes, CharacterClass.CLOSING, CharacterClass.EMOJI) | guillemet
    quote = tf.equal(classes, CharacterClass.QUOTE)
    letter = is_one_of(
        classes, CharacterClass.UPPER, CharacterClass.LETTER, CharacterClass.IDEOGRAPH
    )
    opening = is_any_of(lines.points, "“‘«") & behind(letter)  # As in 。“.
    quote = quote & ~before(white) & ~opening
    tail = terminal | closing | quote | _note_numbers(lines, terminal | closing | quote)
    joint = before(tail) & behind(terminal | closing)  # A space within a tail.
    tail = tail | (tf.equal(classes, CharacterClass.SPACE) & joint)
    first = tf.where(tail & ~before(tail))[:, 0]
    last = tf.where(tail & ~behind(tail))[:, 0]

    def within(mask: tf.Tensor) -> tf.Tensor:
        counts = count(mask)
        return tf.gather(counts, last + 1) - tf.gather(counts, first)

    follows = tf.gather(behind(classes), last)
    ends_at_once = within(wide) > 0
    ends_at_once |= (within(exclamation) > 0) & tf.equal(follows, CharacterClass.IDEOGRAPH)
    spaced = tf.equal(follows, CharacterClass.SPACE)
    chosen = tf.where((within(terminal) > 0) & (spaced | ends_at_once))[:, 0]  # [C]
    # The first terminal character of a tail is the one behind those of the tails before it.
    places = tf.where(terminal)[:, 0]
    index = tf.gather(count(terminal), tf.gather(first, chosen))
    return Tails(
        first=tf.cast(tf.gather(places, index), tf.int32),
        last=tf.cast(tf.gather(last, chosen), tf.int32),
        plain=tf.gather(tf.equal(within(terminal), 1) & tf.equal(within(stop), 1), chosen),
        wide=tf.gather(ends_at_once, chosen),
        quoted=~tf.gather(terminal, tf.gather(last, chosen)),
    )


def _note_numbers(lines: JoinedLines, tail: tf.Tensor) -> tf.Tensor:
    """Returns where the number of a footnote stands behind a stop: "[12" of "[12]"."""
    digit = tf.equal(lines.classes, CharacterClass.DIGIT)
    last = tf.equal(lines.points, ord("[")) & before(tail) & behind(digit)
    found = last
    for _ in range(_NOTE_DIGITS):
        last = digit & before(last)
        found = found | last
    return found
