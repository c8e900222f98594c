"""Odd strings of many scripts, with controls, signs, tokens of other tokenizers and odd spaces."""

import random

# First and last code points of some blocks.
_BLOCKS = (
    *((0x0, 0x9), (0xE, 0x1F), (0x20, 0x7E), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF)),
    *((0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1E00, 0x1FFF)),
    *((0x2000, 0x2027), (0x2030, 0x22FF), (0x2500, 0x25FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF)),
    *((0xAC00, 0xD7A3), (0xE000, 0xE0FF), (0xFB00, 0xFB4F), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF)),
    (0x1F300, 0x1F64F),
)
_WORDS = [
    "the",
    "a",
    "dog",
    "house",
    "Paris",
    "été",
    "straße",
    "www.x.org",
    "don't",
    "x@y.de",
    "100,000.5",
    "C++",
    "#tag",
    "<s>",
    "a_b",
    "…",
    "—",
    "▁",
    "▁▁",
    "a▁b",
    "ﬁn",
    "Ⅷ",
    "①",
    "㎏",
    "é",
    "\u200b",
    "\xad",
    "\ufeff",
    "👩\u200d👧",
    "да",
    "한국어",
    "東京",
    "ไทย",
]


def odd_texts(count: int = 2000, seed: int = 7) -> list[str]:
    """Returns odd strings without line ends."""
    draw = random.Random(seed)

    def character() -> str:
        return chr(draw.randint(*draw.choice(_BLOCKS)))

    def of_one_block() -> str:
        first, last = draw.choice(_BLOCKS)
        return "".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, 20)))

    def words() -> str:
        return " ".join(draw.choices(_WORDS, k=draw.randint(1, 10)))

    def mixed() -> str:
        parts = [
            draw.choice([character(), draw.choice(_WORDS)]) for _ in range(draw.randint(1, 15))
        ]
        return draw.choice(["", " "]).join(parts)

    def spaced() -> str:
        spaces = ["  ", "\t", " ", "", "\u3000"]
        parts = [draw.choice(spaces) + draw.choice(_WORDS) for _ in range(draw.randint(1, 8))]
        return "".join(parts)

    return [draw.choice([of_one_block, words, mixed, spaced])() for _ in range(count)]
