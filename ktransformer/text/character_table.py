"""Properties of characters, looked up in a graph by their code points."""

import functools
import unicodedata
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from ktransformer.text.line_limits import normalize_line

FLAGS = (
    "space",
    "word",
    "unspaced",
    "opens",
    "closes",
    "emoji",
    "joins_emoji",
    "unknown",
    "letter",
)
"""The properties.

space: white space. word: letters, marks, numbers and symbols of scripts with spaces between words.
unspaced: characters of scripts without. opens, closes: punctuation that no space follows, or
precedes. emoji: a pictograph. joins_emoji: extends one, such as a skin tone or a joiner. unknown:
the tokenizer does not know it. letter: a letter, mark or number of a script with spaces.
"""
_BIT = {name: 1 << i for i, name in enumerate(FLAGS)}
_NONE = 0x110000  # Stands for no character.
_PLANES, _TAGS = 0x30000, range(0xE0000, 0xE0080)
_PAGE = 256
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0xA4CF),
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFF9F),
    (0x1F200, 0x1F2FF),
    (0x20000, 0x2FFFF),
)
_EMOJI = (
    (0x231A, 0x231B),
    (0x23E9, 0x23F3),
    (0x23F8, 0x23FA),
    (0x25FD, 0x25FE),
    (0x2600, 0x27BF),
    (0x2B1B, 0x2B1C),
    (0x2B50, 0x2B50),
    (0x2B55, 0x2B55),
    (0x1F000, 0x1F0FF),
    (0x1F18E, 0x1F18E),
    (0x1F191, 0x1F19A),
    (0x1F1E6, 0x1F1FF),
    (0x1F201, 0x1F64F),
    (0x1F680, 0x1F6FF),
    (0x1F7D5, 0x1F7FF),
    (0x1F900, 0x1FAFF),
)
_JOINS = (
    (0x200D, 0x200D),
    (0x20E3, 0x20E3),
    (0xFE0E, 0xFE0F),
    (0x1F3FB, 0x1F3FF),
    (0xE0020, 0xE007F),
)
_CLOSING, _OPENING = {*".,;:!?\N{HORIZONTAL ELLIPSIS}"}, {*"¿¡"}


class CharacterTable:
    """Tells the `FLAGS` of code points in a graph.

    The flags of 256 code points make a page; equal pages are stored once.

    Args:
        known: The characters that the tokenizer knows; None for all.
    """

    def __init__(self, known: str | None) -> None:
        codes = _codes_of_flags()
        if known is not None:
            codes = codes + _BIT["unknown"] * _find_unknown(known)
        padded = np.pad(codes, [0, -len(codes) % _PAGE])
        pages, page = np.unique(padded.reshape(-1, _PAGE), axis=0, return_inverse=True)
        self._pages = pages.reshape(-1).astype(np.int32)
        self._page_of = page.reshape(-1).astype(np.int32)

    def look_up(self, points: tf.Tensor, names: Iterable[str]) -> tuple[tf.Tensor, ...]:
        """Returns the flags of code points `[N]`: boolean `[N]` each; all false for -1."""
        points = tf.where(points < 0, _NONE, points)
        page = tf.gather(tf.constant(self._page_of), points // _PAGE)
        codes = tf.gather(tf.constant(self._pages), page * _PAGE + points % _PAGE)
        every = np.arange(1 << len(FLAGS))
        return tuple(tf.gather(tf.constant(every & _BIT[name] > 0), codes) for name in names)


@functools.cache
def _codes_of_flags() -> np.ndarray:
    """Returns the sum of the `_BIT`s of each code point, without `unknown`; 0 for `_NONE`."""
    codes = np.full(_NONE + 1, _BIT["word"], np.int32)
    codes[_NONE] = 0
    for code in (*range(_PLANES), *_TAGS):
        codes[code] = _code_of(chr(code))
    for first, last in _UNSPACED:
        codes[first : last + 1] = _BIT["unspaced"] + (codes[first : last + 1] & _BIT["space"])
    for name, ranges in (("emoji", _EMOJI), ("joins_emoji", _JOINS)):
        for first, last in ranges:
            codes[first : last + 1] |= _BIT[name]
    return codes


def _code_of(character: str) -> int:
    category = unicodedata.category(character)
    if category in ("Zs", "Zl", "Zp") or character in "\t\n\v\f\r\x85":
        return _BIT["space"]
    if category in ("Ps", "Pi") or character in _OPENING:
        return _BIT["opens"]
    if category in ("Pe", "Pf") or character in _CLOSING:
        return _BIT["closes"]
    return _BIT["word"] + _BIT["letter"] * (category[0] in "LMN")


@functools.lru_cache(maxsize=8)
def _find_unknown(known: str) -> np.ndarray:
    """Returns which code points become unknown tokens: boolean `[_NONE + 1]`.

    A code point whose normalised form is known, or empty, is known. So are combining marks, which
    usually become one character with the letter before; NUL is not.
    """
    unknown = np.full(_NONE + 1, True)
    unknown[_NONE] = False
    listed = {*known, " "}
    for code in (*range(0xD800), *range(0xE000, _PLANES), *_TAGS):
        character = chr(code)
        category = unicodedata.category(character)
        if character in listed or category in ("Mn", "Cc", "Cf", "Zs", "Zl", "Zp"):
            unknown[code] = False
        elif unicodedata.normalize("NFKC", character) != character:
            unknown[code] = not listed.issuperset(normalize_line(character))
    unknown[0] = True
    return unknown
