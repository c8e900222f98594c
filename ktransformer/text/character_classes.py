"""The classes of characters that sentences are found by, as a table for a graph."""

# ruff: noqa: RUF001

import enum
import functools
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_PAGE = 256
_END = 0x20000  # The planes behind hold ideographs, and nothing else that occurs in text.


class CharacterClass(enum.IntEnum):
    """What a character is for the splitter of sentences."""

    OTHER = 0
    SPACE = 1
    LINE_BREAK = 2
    UPPER = 3
    LOWER = 4
    LETTER = 5  # Of a script without case, with spaces between words.
    IDEOGRAPH = 6  # Of a script without spaces between words.
    MARK = 7
    DIGIT = 8
    STOP = 9  # The full stop, which also ends abbreviations.
    ELLIPSIS = 10
    EXCLAMATION = 11  # Ends a sentence where white space follows, or an ideograph.
    WIDE_STOP = 12  # Ends a sentence, whatever follows.
    COMMA = 13
    OPENING = 14
    CLOSING = 15
    QUOTE = 16  # Opens or closes.
    DASH = 17
    EMOJI = 18


_LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_OF_CHARACTERS = {
    CharacterClass.LINE_BREAK: _LINE_BREAKS,
    CharacterClass.SPACE: "\t\x1f\u200b\ufeff",
    CharacterClass.STOP: ".",
    CharacterClass.ELLIPSIS: "…⋯",
    CharacterClass.EXCLAMATION: "!?‼⁇⁈⁉‽⸮;՜՞",
    CharacterClass.WIDE_STOP: "。！？｡．؟۔।॥։።፧៕។၊။᠃᠉꓿﹒﹖﹗",
    CharacterClass.COMMA: ",;:，、；：､،؛",
    CharacterClass.OPENING: "¿¡•‣◦▪●",
    CharacterClass.QUOTE: "\"'«»‹›“”„‟‘’‚‛〝〞＂＇¹²³⁰⁴⁵⁶⁷⁸⁹",  # The numbers of footnotes, too.
    CharacterClass.EMOJI: "\ufe0f\u200d",
}
_OF_CATEGORIES = {
    **dict.fromkeys(("Zs", "Zl", "Zp"), CharacterClass.SPACE),
    **dict.fromkeys(("Lu", "Lt"), CharacterClass.UPPER),
    "Ll": CharacterClass.LOWER,
    **dict.fromkeys(("Lo", "Lm", "Nl"), CharacterClass.LETTER),
    **dict.fromkeys(("Mn", "Mc", "Me"), CharacterClass.MARK),
    "Nd": CharacterClass.DIGIT,
    "Ps": CharacterClass.OPENING,
    "Pe": CharacterClass.CLOSING,
    "Pd": CharacterClass.DASH,
}
# Thai, Lao, Tibetan, Burmese, Khmer, Kana, ideographs.
_WITHOUT_SPACES = (
    *((0xE00, 0xFFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FFF), (0x3005, 0x3007)),
    *((0x3031, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F)),
)
_EMOJI = ((0x2600, 0x27BF), (0x1F000, 0x1FAFF))


def _class_of(point: int) -> CharacterClass:
    category = unicodedata.category(chr(point))
    if category in ("So", "Sk") and any(first <= point <= last for first, last in _EMOJI):
        return CharacterClass.EMOJI
    found = _OF_CATEGORIES.get(category, CharacterClass.OTHER)
    if found == CharacterClass.LETTER and any(a <= point <= b for a, b in _WITHOUT_SPACES):
        return CharacterClass.IDEOGRAPH
    return found


@functools.cache
def _pages() -> tuple[np.ndarray, np.ndarray]:
    """Returns the page of each `_PAGE` code points, and the pages that differ."""
    classes = np.array([_class_of(point) for point in range(_END)], np.int8)
    for kind, characters in _OF_CHARACTERS.items():
        classes[[ord(character) for character in characters]] = kind
    pages, page_of = np.unique(classes.reshape(-1, _PAGE), axis=0, return_inverse=True)
    return page_of.reshape(-1).astype(np.int32), pages.reshape(-1)


def character_classes(points: "tf.Tensor") -> "tf.Tensor":
    """Returns the `CharacterClass` of each code point: int32 `[N]` -> int32 `[N]`."""
    import tensorflow as tf

    page_of, pages = _pages()
    low = tf.minimum(points, _END - 1)
    page = tf.gather(tf.constant(page_of), low // _PAGE)
    found = tf.cast(tf.gather(tf.constant(pages), page * _PAGE + low % _PAGE), tf.int32)
    return tf.where(points < _END, found, CharacterClass.IDEOGRAPH)


def sentence_marks() -> str:
    """Returns the characters without which no sentence ends inside a text."""
    kinds = ("STOP", "ELLIPSIS", "EXCLAMATION", "WIDE_STOP", "LINE_BREAK")
    return "".join(_OF_CHARACTERS[CharacterClass[kind]] for kind in kinds)


def is_one_of(classes: "tf.Tensor", *kinds: CharacterClass) -> "tf.Tensor":
    """Returns where a character is of one of these classes: int32 -> bool, of the same shape."""
    import tensorflow as tf

    return tf.gather(tf.constant([kind in kinds for kind in CharacterClass]), classes)


def is_any_of(points: "tf.Tensor", characters: str) -> "tf.Tensor":
    """Returns where a code point is one of these characters: int32 -> bool, of the same shape."""
    import tensorflow as tf

    found = tf.equal(tf.expand_dims(points, -1), tf.constant([ord(each) for each in characters]))
    return tf.reduce_any(found, axis=-1)
