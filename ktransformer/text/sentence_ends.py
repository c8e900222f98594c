"""The rules for the end of a sentence."""

# ruff: noqa: RUF001

from typing import NamedTuple

import tensorflow as tf

from ktransformer.text.character_classes import CharacterClass, is_any_of, is_one_of
from ktransformer.text.joined_lines import JoinedLines, count
from ktransformer.text.sentence_words import (
    LONGEST,
    PRIME,
    Before,
    Behind,
    hash_points,
    look_up,
    words_before,
    words_behind,
)
from ktransformer.text.stop_tails import Tails, find_tails

_SKIPPED = 6  # Characters between a stop and the first word behind it: spaces, quotes, dashes.
_SPEECH = 5  # Characters behind a quotation among which a verb of speaking is looked for.
_SPEECH_VERBS = "说說问問道喊叫答嚷"
_QUOTE_PARTICLES = "とっはがのをにでもなへ"
_NAME_PARTICLES = "のを"  # No sentence begins with them: the stop belongs to a name.


class _Word(NamedTuple):
    """The words before C stops.

    Attributes:
        kind: Int32 `[C]`, a `Before`.
        number: Bool `[C]`, it has one to three digits, and nothing else.
        initial: Bool `[C]`, each of its parts between dots is one letter.
        opens: Bool `[C]`, it begins its line.
        listed: Bool `[C]`, it stands behind another stop, which is not that of an abbreviation.
        counted: Bool `[C]`, a word before it says that a number is an ordinal.
    """

    kind: tf.Tensor
    number: tf.Tensor
    initial: tf.Tensor
    opens: tf.Tensor
    listed: tf.Tensor
    counted: tf.Tensor


class _Next(NamedTuple):
    """What stands behind C stops: the class of the next character, and of the next word's first.

    Attributes:
        character: Int32 `[C]`, the class of the character at once behind.
        word: Int32 `[C]`, the class of the first character that is no space, quote or dash.
        kind: Int32 `[C]`, a `Behind`.
        lower: Bool `[C]`, the word begins in lower case, and is not like "iPhone".
        dotted_number: Bool `[C]`, it is a number with a full stop.
        initial: Bool `[C]`, it is a letter with a full stop.
    """

    character: tf.Tensor
    word: tf.Tensor
    kind: tf.Tensor
    lower: tf.Tensor
    dotted_number: tf.Tensor
    initial: tf.Tensor


def sentence_ends(lines: JoinedLines) -> tf.Tensor:
    """Returns where a sentence ends before the end of its line: bool `[K]`."""
    tails = find_tails(lines)
    word, following = _read_before(lines, tails), _read_behind(lines, tails)
    apart = tf.equal(following.character, CharacterClass.SPACE)
    ends = apart & (~following.lower | (_in_lower_case(lines, tails) & tf.equal(word.kind, 0)))
    ends = ends & ~(tails.plain & _goes_on(lines, tails, word, following))
    wide = tails.wide & ~tf.equal(following.character, CharacterClass.COMMA)
    ends = ends | (wide & ~_is_quotation_inside(lines, tails, following))
    return (
        tf.scatter_nd(
            tf.expand_dims(tails.last, 1), tf.cast(ends, tf.int32), tf.shape(lines.points)
        )
        > 0
    )


def _read_before(lines: JoinedLines, tails: Tails) -> _Word:
    at = tails.first - 1
    points, classes, inside = _window(lines, at, -1)
    start = at - _length(inside)  # The place before the word.
    initial = _is_initial(classes, inside) & ~is_any_of(tf.gather(lines.points, start), "'’")
    digits = _length(inside & tf.equal(classes, CharacterClass.DIGIT))
    # The word before: "z." in "z. B.", "am" in "am 3. Mai".
    spaced = tf.equal(tf.gather(lines.classes, start), CharacterClass.SPACE)
    previous = start - tf.cast(spaced, tf.int32)
    previous_class = tf.gather(lines.classes, previous)
    dotted = spaced & tf.equal(previous_class, CharacterClass.STOP)
    kind, previous_kind = _look_up_both(lines, (points, inside), previous, dotted)
    behind_number = spaced & is_one_of(previous_class, CharacterClass.DIGIT, CharacterClass.UPPER)
    is_lower = tf.equal(tf.gather(lines.classes, at), CharacterClass.LOWER)
    by_default = tf.where(is_lower & behind_number, Before.END, Before.MAYBE)  # "5 m."
    kind = tf.where(tf.equal(kind, Before.UNKNOWN) & initial, by_default, kind)
    unit = tf.where(behind_number, Before.MAYBE, Before.NO_END)
    kind = tf.where(tf.equal(kind, Before.UNIT), unit, kind)
    kind = tf.where(tf.equal(kind, Before.DETERMINER), Before.UNKNOWN, kind)
    stopped = is_one_of(
        previous_class,
        CharacterClass.STOP,
        CharacterClass.EXCLAMATION,
        CharacterClass.WIDE_STOP,
        CharacterClass.ELLIPSIS,
    )
    return _Word(
        kind=kind,
        number=tf.equal(digits, _length(inside)) & (digits > 0) & (digits < 4),
        initial=initial,
        opens=tf.equal(tf.gather(lines.classes, start), CharacterClass.LINE_BREAK),
        listed=spaced & stopped & tf.equal(previous_kind, Before.UNKNOWN),
        counted=spaced & tf.equal(previous_kind, Before.DETERMINER),
    )


def _is_initial(classes: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
    """Returns which words are letters with dots between them: `[C, W]` -> bool `[C]`."""
    mark = inside & tf.equal(classes, CharacterClass.MARK)
    dot = inside & tf.equal(classes, CharacterClass.STOP)
    letter = inside & is_one_of(
        classes, CharacterClass.UPPER, CharacterClass.LOWER, CharacterClass.LETTER
    )
    letters, dots, marks = _length(letter), _length(dot), _length(mark)
    only = tf.equal(letters, dots + 1) & tf.equal(letters + dots + marks, _length(inside))
    # A letter with vowel signs and no dot may be a word, such as the Hindi for "is".
    only &= tf.equal(marks, 0) | (dots > 0)
    return only & ~tf.reduce_any(letter[:, 1:] & letter[:, :-1], axis=1)


def _look_up_both(
    lines: JoinedLines, word: tuple[tf.Tensor, tf.Tensor], previous: tf.Tensor, dotted: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks up words before stops, alone and behind an abbreviation before, and the words before.

    Args:
        lines: All characters.
        word: The window of the word: code points, and where it is.
        previous: Int32 `[C]`, the place where the word before ends.
        dotted: Bool `[C]`, a full stop is there, and a space behind it.

    Returns:
        Int32 `[C]`, a `Before` of each word and of the one before it, without its full stop.
    """
    points, _, inside = _window(lines, previous, -1)
    alone = hash_points(*word)
    length = tf.minimum(_length(word[1]), LONGEST)
    joined = (alone + hash_points(points, inside, length)) % PRIME
    undotted = hash_points(points[:, 1:], inside[:, 1:])
    before_it = tf.where(dotted, undotted, hash_points(points, inside))
    kinds = look_up(tf.stack([alone, joined, before_it]), words_before(), backwards=True)
    return tf.where(dotted & (kinds[1] > 0), kinds[1], kinds[0]), kinds[2]


def _read_behind(lines: JoinedLines, tails: Tails) -> _Next:
    skipped = is_one_of(
        lines.classes,
        CharacterClass.SPACE,
        CharacterClass.OPENING,
        CharacterClass.QUOTE,
        CharacterClass.DASH,
    )
    place = tails.last + 1
    for _ in range(_SKIPPED):
        place = place + tf.cast(tf.gather(skipped, place), tf.int32)
    word_class = tf.gather(lines.classes, place)
    points, classes, inside = _window(lines, place, 1)
    stop = tf.equal(classes, CharacterClass.STOP)
    lower = tf.equal(word_class, CharacterClass.LOWER)
    lower &= ~tf.equal(classes[:, 1], CharacterClass.UPPER)
    # A letter with a full stop is an initial rather than the first word of a sentence.
    kind = look_up(hash_points(points, inside & ~stop), words_behind(), backwards=False)
    is_letter = is_one_of(
        word_class, CharacterClass.UPPER, CharacterClass.LOWER, CharacterClass.LETTER
    )
    return _Next(
        character=tf.gather(lines.classes, tails.last + 1),
        word=word_class,
        kind=tf.where(stop[:, 1], Behind.UNKNOWN, kind),
        lower=lower,
        dotted_number=tf.equal(word_class, CharacterClass.DIGIT)
        & tf.reduce_any(inside & stop, axis=1),
        initial=is_letter & stop[:, 1],
    )


def _goes_on(lines: JoinedLines, tails: Tails, word: _Word, following: _Next) -> tf.Tensor:
    """Returns where the sentence goes on behind a full stop: bool `[C]`."""
    starter = tf.equal(following.kind, Behind.STARTER)
    digit = tf.equal(following.word, CharacterClass.DIGIT)
    on = tf.equal(word.kind, Before.NO_END)
    on |= tf.equal(word.kind, Before.NUMBERED) & digit
    on |= tf.equal(word.kind, Before.MAYBE) & ~starter
    # "1. First", "am 3. Mai", "5. 6. 2019", "Der 1. FC".
    on |= (word.opens & (word.number | word.initial)) | (word.listed & word.number)
    on |= word.number & (tf.equal(following.kind, Behind.COUNTED) | (word.counted & ~starter))
    on |= word.number & following.dotted_number
    on |= word.initial & following.initial  # "J. K."
    # Thai has no full stop.
    stem = tf.gather(lines.points, tails.first - 1)
    return on | ((stem >= 0xE00) & (stem < 0xE80))


def _in_lower_case(lines: JoinedLines, tails: Tails) -> tf.Tensor:
    """Returns where a line has no letter in upper case: bool `[C]`."""
    line_break = tf.equal(lines.classes, CharacterClass.LINE_BREAK)
    breaks = tf.where(line_break)[:, 0]
    line = tf.gather(count(line_break), tails.last)  # [C]
    uppers = count(tf.equal(lines.classes, CharacterClass.UPPER))
    begin, end = tf.gather(breaks, line - 1), tf.gather(breaks, line)
    return tf.equal(tf.gather(uppers, begin), tf.gather(uppers, end))


def _is_quotation_inside(lines: JoinedLines, tails: Tails, following: _Next) -> tf.Tensor:
    """Returns where a sentence goes on in Chinese or Japanese: bool `[C]`."""
    at_once = tf.equal(following.character, CharacterClass.IDEOGRAPH)
    point = tf.gather(lines.points, tails.last + 1)
    points, _, inside = _window(lines, tails.last + 1, 1)
    verbs = is_any_of(points[:, :_SPEECH], _SPEECH_VERBS)
    speech = tf.reduce_any(inside[:, :_SPEECH] & verbs, axis=1)
    quotation = tails.quoted & (is_any_of(point, _QUOTE_PARTICLES) | speech)
    return at_once & (quotation | is_any_of(point, _NAME_PARTICLES))


def _window(lines: JoinedLines, at: tf.Tensor, step: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the characters of words from a place on, or back from there.

    Returns:
        Int32 `[C, LONGEST + 1]` their code points and classes, and bool alike, where they belong to
        the word: letters, digits and full stops without a space.
    """
    places = tf.expand_dims(at, 1) + step * tf.range(LONGEST + 1)
    places = tf.clip_by_value(places, 0, tf.shape(lines.points)[0] - 1)
    classes = tf.gather(lines.classes, places)
    part = is_one_of(
        classes,
        CharacterClass.UPPER,
        CharacterClass.LOWER,
        CharacterClass.LETTER,
        CharacterClass.IDEOGRAPH,
        CharacterClass.MARK,
        CharacterClass.DIGIT,
        CharacterClass.STOP,
    )
    outside = tf.cumsum(tf.cast(~part, tf.int32), axis=1)
    return tf.gather(lines.points, places), classes, tf.equal(outside, 0)


def _length(mask: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
