"""Finds the spans of texts that a translation keeps as they are, in a graph."""

import string
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text.character_table import CharacterTable
from ktransformer.text.code_points import CodePoints, count_at, row_ids
from ktransformer.text.scan import is_one_of, last_true, next_true, places_of, shift

KINDS = ("tags", "placeholders", "urls", "emails", "code", "emoji", "unknown", "numbers")
"""What a span may be; see `SpanFinder`."""
_LETTERS, _DIGITS = string.ascii_letters, string.digits
_NAME = _LETTERS + _DIGITS + "_:.-"
_NAME_WEIGHTS = np.random.default_rng(0).integers(1, 1 << 15, 16).astype(np.int32)
_Found = tuple[tf.Tensor, tf.Tensor]  # Starts and ends.


class Spans(NamedTuple):
    """M spans, in the order of the texts; they do not overlap.

    Attributes:
        starts: Int32 `[M]`, the place of the first character in what `with_edges` returns.
        ends: Int32 `[M]`, the place behind the last.
        rows: Int32 `[M]`, the text.
        tags: Int32 `[M]`: 1 for an opening tag, -1 for a closing one, else 0.
        names: Int32 `[M]`, a number that two tags share if they have one name.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    rows: tf.Tensor
    tags: tf.Tensor
    names: tf.Tensor


class SpanFinder:
    """Finds spans of some kinds. Those that overlap become one.

    - `tags`: `<`, a letter, `/`, `!` or `?`, up to the next `>` that is not quoted, without another
      `<`; a comment up to its `-->`. `a < b`, and a tag that is never closed, are text.
    - `placeholders`: `{name}`, `{0}`, `${x}`, `#{x}`, `%{x}`, without spaces or further braces
      inside; `{{ x }}` and `{% x %}` with spaces; `%s`, `%1$d`, `%(name)s`, `%%`, unless a digit
      or a space stands before the letter or a letter behind it, as in "100%ig" and "50 % der".
    - `urls`: `scheme://` or `www.` up to a space, a quote or a bracket, without the punctuation
      at the end.
    - `emails`: `name@host.tld`.
    - `code`: a run of backticks up to the next one of the text.
    - `emoji`: pictographs in a row, with joiners, skin tones and flags, and keycaps.
    - `unknown`: the whole word around a letter that the tokenizer does not know, or a run of other
      unknown characters; a NUL; bytes that are not UTF-8. An unknown sign between two letters,
      such as a typographic apostrophe, is left in its word.
    - `numbers`: digits, with points, commas and colons among them, that touch no letter.

    Args:
        kinds: Some of `KINDS`.
        known: The characters that the tokenizer knows; None for all.
        except_for: Texts that begin no span, such as symbols of the tokenizer.
        also: Texts that are spans, whatever the kinds.

    Raises:
        InputError: A kind is none of `KINDS`.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        known: str | None = None,
        *,
        except_for: Sequence[str] = (),
        also: Sequence[str] = (),
    ) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise InputError(f"copy must be some of {', '.join(KINDS)}; got {kind!r}.")
        self.kinds = tuple(kinds)
        self.table = CharacterTable(known)
        self._except_for, self._also = tuple(except_for), tuple(also)

    def find(self, texts: CodePoints) -> Spans:
        """Finds the spans of texts."""
        points = with_edges(texts)
        size = tf.shape(points)[0]
        text = _Text(points, self.table)
        found = [span for kind in self.kinds for span in _FINDERS[kind](text)]
        for symbol in self._also:
            start = places_of(_spells(points, symbol))
            found.append((start, start + len(symbol)))
        starts = tf.concat([start for start, _ in found], axis=0)
        ends = tf.concat([end for _, end in found], axis=0)
        for symbol in self._except_for:
            starts, ends = _keep(starts, ends, ~tf.gather(_spells(points, symbol), starts))
        starts, ends = _join(starts, ends, size)
        row = tf.cumsum(tf.cast(points < 0, tf.int32))
        row = tf.gather(row, starts) - 1
        tags, names = _classify(text, starts, ends)
        if "tags" not in self.kinds:
            tags = tf.zeros_like(tags)
        return Spans(starts, ends, row, tags, names)


def with_edges(texts: CodePoints) -> tf.Tensor:
    """Returns the code points of texts with -1 before each text and behind the last."""
    rows = row_ids(texts.row_splits)
    count, size = tf.shape(rows)[0], tf.size(rows) + tf.size(texts.row_splits)
    at = tf.expand_dims(tf.range(count) + rows + 1, 1)
    return tf.scatter_nd(at, texts.points + 1, tf.reshape(size, [1])) - 1


class _Text:
    """Code points with -1 between the texts, and where the runs of some characters end."""

    def __init__(self, points: tf.Tensor, table: CharacterTable) -> None:
        self.points, self.table = points, table
        self.size = tf.shape(points)[0]
        self.edge = points < 0
        (self.space,) = table.look_up(points, ["space"])

    def at(self, places: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.points, tf.clip_by_value(places, 0, self.size - 1))

    def are(self, places: tf.Tensor, characters: str) -> tf.Tensor:
        return is_one_of(self.at(places), characters)

    def places_of(self, character: str) -> tf.Tensor:
        return places_of(self.points == ord(character))

    def look(self, values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, tf.clip_by_value(places, 0, self.size - 1))

    def run_end(self, places: tf.Tensor, characters: str) -> tf.Tensor:
        """Returns the place behind the run of some characters that begins at each place."""
        return self.look(next_true(~is_one_of(self.points, characters)), places)

    def run_start(self, places: tf.Tensor, characters: str) -> tf.Tensor:
        """Returns the first place of the run of some characters that ends before each place."""
        return self.look(last_true(~is_one_of(self.points, characters)), places - 1) + 1


def _keep(starts: tf.Tensor, ends: tf.Tensor, kept: tf.Tensor) -> _Found:
    chosen = places_of(kept)
    return tf.gather(starts, chosen), tf.gather(ends, chosen)


def _spells(points: tf.Tensor, symbol: str) -> tf.Tensor:
    found = points == ord(symbol[0])
    for i, character in enumerate(symbol[1:], start=1):
        found &= shift(points, i) == ord(character)
    return found


def _tags(text: _Text) -> list[_Found]:
    at = text.places_of("<")
    second, third = text.at(at + 1), text.at(at + 2)
    letter = is_one_of(second, _LETTERS)
    marked = is_one_of(second, "/!?") & is_one_of(third, _LETTERS)
    odd = tf.cumsum(tf.cast(text.points == ord('"'), tf.int32)) % 2 == 1  # Quotation marks before.
    signs = is_one_of(text.points, "<>")
    stops = [next_true(text.edge | (signs & same)) for same in (~odd, odd)]
    stop = tf.where(text.look(odd, at), text.look(stops[1], at + 1), text.look(stops[0], at + 1))
    tags = _keep(at, stop + 1, (letter | marked) & (text.at(stop) == ord(">")))
    closing = next_true(text.edge | _spells(text.points, "-->"))
    end = text.look(closing, at + 4)
    comment = text.look(_spells(text.points, "<!--"), at) & (text.at(end) >= 0)
    return [tags, _keep(at, end + 3, comment)]


def _placeholders(text: _Text) -> list[_Found]:
    return [_braces(text), _double_braces(text), *_conversions(text)]


def _braces(text: _Text) -> _Found:
    at = text.places_of("{")
    stop = text.look(next_true(text.edge | text.space | is_one_of(text.points, "{}")), at + 1)
    prefix = tf.cast(text.are(at - 1, "$#%"), tf.int32)
    return _keep(at - prefix, stop + 1, (text.at(stop) == ord("}")) & (stop > at + 1))


def _double_braces(text: _Text) -> _Found:
    at = text.places_of("{")
    second = text.at(at + 1)
    stop = text.look(next_true(text.edge | is_one_of(text.points, "{}")), at + 2)
    whole = text.at(stop) == ord("}")
    variable = (second == ord("{")) & (text.at(stop + 1) == ord("}"))
    command = (second == ord("%")) & (text.at(stop - 1) == ord("%")) & (stop > at + 2)
    end = tf.where(variable, stop + 2, stop + 1)
    return _keep(at, end, whole & (variable | command) & (stop > at + 2))


def _conversions(text: _Text) -> list[_Found]:
    at = text.places_of("%")
    place = at + 1
    bracket = text.run_end(place + 1, _NAME)
    named = (text.at(place) == ord("(")) & (text.at(bracket) == ord(")")) & (bracket > place + 1)
    place = tf.where(named, bracket + 1, place)
    digits = text.run_end(place, _DIGITS)
    place = tf.where((digits > place) & (text.at(digits) == ord("$")), digits + 1, place)
    place = text.run_end(place, "-+#0'")
    place = text.run_end(place, _DIGITS + "*")
    place = tf.where(text.at(place) == ord("."), text.run_end(place + 1, _DIGITS + "*"), place)
    place = text.run_end(place, "hlqjzL")
    whole = text.are(place, "sdiufFeEgGxXoucpaAr@") & ~text.are(at - 1, _DIGITS + "%")
    whole &= ~text.are(place + 1, _LETTERS + _DIGITS)
    double = (text.at(at + 1) == ord("%")) & ~text.are(at - 1, _DIGITS + "%")
    return [_keep(at, place + 1, whole), _keep(at, at + 2, double)]


def _urls(text: _Text) -> list[_Found]:
    scheme = places_of(_spells(text.points, "://"))
    start = text.run_start(scheme, _LETTERS + _DIGITS + "+.-")
    start += tf.cast(~text.are(start, _LETTERS), tf.int32)
    (letter,) = text.table.look_up(text.points, ["letter"])
    www = places_of(_spells(text.points, "www.") & ~shift(letter, -1))
    starts = tf.concat([start, www], axis=0)
    inside = tf.concat([scheme + 3, www + 4], axis=0)
    (unspaced,) = text.table.look_up(text.points, ["unspaced"])
    stops = text.edge | text.space | unspaced | is_one_of(text.points, '<>"`{}|\\^')
    end = text.look(next_true(stops), inside)
    # A bracket at the end belongs to the URL if it was opened there.
    opened = tf.cumsum(tf.cast(is_one_of(text.points, "(["), tf.int32))
    balanced = text.look(opened, end - 1) > text.look(opened, starts)
    marks = ".,;:!?'*_"
    end = tf.where(balanced, text.run_start(end, marks), text.run_start(end, marks + ")]"))
    first = tf.concat([scheme, www + 3], axis=0)  # Nothing is left of "www.".
    return [_keep(starts, end, (end > inside) & (starts < first))]


def _emails(text: _Text) -> list[_Found]:
    at = text.places_of("@")
    start = text.run_start(at, _LETTERS + _DIGITS + "._%+-")
    end = text.run_end(at + 1, _LETTERS + _DIGITS + ".-")
    end = text.run_start(end, ".-")
    point = text.look(next_true(text.points == ord(".")), at + 2)
    return [_keep(start, end, (start < at) & (point + 1 < end))]


def _code(text: _Text) -> list[_Found]:
    tick = text.points == ord("`")
    begins = tick & ~shift(tick, -1)
    number = tf.cumsum(tf.cast(begins, tf.int32))  # Of the runs up to here.
    before = text.look(number, last_true(text.edge))  # Of those before the text.
    opener = tf.gather(places_of(begins), tf.range(tf.reduce_sum(tf.cast(begins, tf.int32))))
    odd = tf.gather(number - before, opener) % 2 == 1
    inside = text.look(next_true(~tick), opener)
    closer = text.look(next_true(tick | text.edge), inside)
    end = text.look(next_true(~tick), closer)
    return [_keep(opener, end, odd & (text.at(closer) >= 0))]


def _emoji_runs(text: _Text) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns which characters are an emoji or join one, and which are surely an emoji."""
    emoji, joins = text.table.look_up(text.points, ["emoji", "joins_emoji"])
    keycap = is_one_of(text.points, _DIGITS + "#*")
    after = shift(text.points, 1)
    keycap &= (after == 0x20E3) | ((after == 0xFE0F) & (shift(text.points, 2) == 0x20E3))
    (space,) = (text.space | text.edge,)
    shown = (after == 0xFE0F) & ~space & ~joins & (text.points > 0x7F)
    sure = (emoji & ~joins) | keycap | shown
    return sure | joins, sure


def _emoji(text: _Text) -> list[_Found]:
    part, sure = _emoji_runs(text)
    return [_runs_with(part, sure)]


def _runs_with(part: tf.Tensor, wanted: tf.Tensor) -> _Found:
    """Returns the runs of `part` that have something wanted."""
    start = places_of(part & ~shift(part, -1))
    end = tf.gather(next_true(~tf.concat([part, [False]], axis=0)), start)
    first = tf.gather(tf.concat([next_true(wanted), [0]], axis=0), start)
    return _keep(start, end, first < end)


def _unknown(text: _Text) -> list[_Found]:
    unknown, letter = text.table.look_up(text.points, ["unknown", "letter"])
    emoji, _ = _emoji_runs(text)
    between = shift(letter, -1) & shift(letter, 1)
    other = unknown & ~letter & ~emoji & ~(between & (text.points > 0))
    return [
        _runs_with(letter, letter & unknown),
        _runs_with(emoji, emoji & unknown),
        _runs_with(other, other),
    ]


def _numbers(text: _Text) -> list[_Found]:
    (letter,) = text.table.look_up(text.points, ["letter"])
    digit = is_one_of(text.points, _DIGITS)
    inner = is_one_of(text.points, ".,:") & shift(digit, -1) & shift(digit, 1)
    part = digit | inner
    start, end = _runs_with(part, part)
    apart = ~text.look(letter, start - 1) & ~text.look(letter, end)
    return [_keep(start, end, apart)]


_FINDERS = {
    "tags": _tags,
    "placeholders": _placeholders,
    "urls": _urls,
    "emails": _emails,
    "code": _code,
    "emoji": _emoji,
    "unknown": _unknown,
    "numbers": _numbers,
}


def _join(starts: tf.Tensor, ends: tf.Tensor, size: tf.Tensor) -> _Found:
    """Joins spans that overlap; what is left is in order."""
    started, ended = (tf.cumsum(count_at(places, size + 1)) for places in (starts, ends))
    open_spans = started - ended  # At each place, those that cover it.
    covered = open_spans > 0
    begins = shift(started, -1)  # Spans that began before a place ...
    new = covered & (started > begins) & (begins == ended)  # ... have all ended.
    first = places_of(new)
    stop = next_true(~covered | new)
    return first, tf.gather(stop, first + 1)


def _classify(text: _Text, starts: tf.Tensor, ends: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the `tags` and `names` of spans."""
    second, last = text.at(starts + 1), text.at(ends - 2)
    is_tag = (text.at(starts) == ord("<")) & (text.at(ends - 1) == ord(">"))
    closing = second == ord("/")
    opening = is_one_of(second, _LETTERS) & (last != ord("/"))
    tags = tf.where(is_tag & closing, -1, tf.cast(is_tag & opening, tf.int32))
    name = starts + 1 + tf.cast(closing, tf.int32)
    name_end = text.run_end(name, _NAME)
    upper = is_one_of(text.points, string.ascii_uppercase)
    lower = text.points + 32 * tf.cast(upper, tf.int32)
    in_name = is_one_of(text.points, _NAME)
    offset = tf.range(text.size) - last_true(~in_name) - 1
    weights = tf.gather(tf.constant(_NAME_WEIGHTS), tf.clip_by_value(offset, 0, 15))
    total = tf.cumsum(tf.where(in_name, lower * weights, 0), exclusive=True)
    return tags, text.look(total, name_end) - text.look(total, name)
