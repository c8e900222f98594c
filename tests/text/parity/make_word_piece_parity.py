"""Writes word_pieces.npz: the ids that Hugging Face's BertTokenizer gives to odd and plain lines.

Command (in an environment of its own; the package is no dependency of this one):

    pip install transformers==5.24.0 tokenizers==0.23.3 numpy
    python tests/text/parity/make_word_piece_parity.py

Vocabulary and odd lines are drawn from a seed, so that the program writes the same numbers again.

The file holds `vocabulary`, `plain` (sentences in 30 languages) and `odd` (2,000 lines of
characters of every kind, of long words and of the names of special pieces), each one text with a
NUL between two entries; and, for each setting of `SETTINGS` and each kind of line,
`<setting>/<kind>/ids` and `/lengths`, int16, the ids of all lines joined; and `<setting>/digest`,
the SHA-256 of the normalised texts of all characters, joined by line ends, without the spaces
around Chinese ones.
"""

# ruff: noqa: RUF001 (characters that look like others are what it is about)

import hashlib
import random
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from tokenizers.normalizers import BertNormalizer
from transformers import BertTokenizer

SPECIAL = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SETTINGS = {
    "uncased": {},
    "cased": {"do_lower_case": False},
    "cased_without_accents": {"do_lower_case": False, "strip_accents": True},
    "uncased_with_accents": {"do_lower_case": True, "strip_accents": False},
}
PLAIN = """\
Two dogs are running across the street, aren't they?
Zwei weiße Hunde laufen über die Straße; das Maß ist voll…
Ein Mann mit 120\u00a0cm Schulterhöhe kostet 3,50\u00a0€ (½ Preis).
Où est le cœur de l'élève ? Ça, c'est « déjà » fait !
¿Dónde está el niño pequeño? ¡Mañana será otro día!
O coração não é só um órgão, é também emoção.
Perché la città è più bella d'inverno?
Zażółć gęślą jaźń, proszę pana.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Árvíztűrő tükörfúrógép, köszönöm szépen.
Jag förstår inte åäö, sa flickan på ön.
Þetta er íslenska: Ég elska þig, sæta mær.
İstanbul'da ığdır ışıkları çok güzel.
Tôi không biết tiếng Việt, nhưng tôi thích phở.
Две собаки бегут по улице, ёжик идёт за ними.
Їжак є в Україні, а ґанок новий.
Δύο σκύλοι τρέχουν στον δρόμο· ο Ὀδυσσεύς γελάει;
Երկու շուն վազում են փողոցով։
ორი ძაღლი გარბის ქუჩაში.
שני כלבים רצים ברחוב, שָׁלוֹם לְךָ.
كلبان يركضان في الشارع، وَالسَّلَامُ عَلَيْكُمْ.
دو سگ در خیابان می‌دوند.
दो कुत्ते सड़क पर दौड़ रहे हैं।
দুটি কুকুর রাস্তায় দৌড়াচ্ছে।
இரண்டு நாய்கள் தெருவில் ஓடுகின்றன.
สุนัขสองตัวกำลังวิ่งอยู่บนถนนในเมืองหลวงของประเทศไทยที่ร้อนมากในเดือนเมษายน
두 마리의 개가 거리를 달리고 있습니다. 국제언어문화교류협력위원회에서는요.
二匹の犬が通りを走っています。カタカナとﾊﾝｶｸもある。
两只狗在街上跑，“你好”他说。
兩隻狗在街上跑，３００元。
Mixed 中文 and English, e-mail: a.b@c.de, #tag, 100%, x=y^2, don't — “quotes” 😀👍🏽.
Ｆｕｌｌ ｗｉｄｔｈ: １２３, ﬁne ﬂoor, № 5, ™ and ² \u200bzero\u00adwidth.
"""
LETTERS = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789"
POOLS = (
    LETTERS,
    " \t\n\r\x0b\x0c\x85\xa0\u2003\u2028\u3000\u200b\ufeff\xad",
    "".join(map(chr, range(1, 32))),
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡§«¶·»¿‘’“”…—–‹›€™½²ⅷﬁﬂ",
    "äöüßÄÖÜẞçéèêñøåÆœŁžİıŞğ",
    "ΑΒΓΔΣσςάέήίόύώϊΰ",
    "абвгдежзёЙЇєґЁ",
    "אבגדָהֵו",
    "ابتثجحخَُِّـ٠١٢",
    "अआइकखगक़ि्ा़",
    "กขคงจฉชซฌเแโใไ่้๊๋",
    "가나다라마바사각힣\uac01ㄱ",
    "漢字中文日本語你好豈廊\U0002b820\U0002b920",
    "ひらがなカタカナﾊﾝｶｸがぱー",
    "\u0300\u0301\u0308\u0327\u20d0\u034f\u1ab0\u0898\U00011938",
    "😀👍🏽👨\u200d👩❤\ufe0f🇩🇪",
    "𝐀𝒷𝔸𝟘ＡＢｃ１！",
    "\ue000\ue00f\uf8ff\U000f0000\ufffd\ufffe\uffff\u0378",
    "\u061d\u2e43\u166d\U000111c9\U00011944\U0001e95e",
    "\u1c89\ua7cb\U00010d50\U00016ea0\ua64a\u10a0\u13a0\u2c2f",
)
# Parts of words for BERT, but not for TensorFlow: exact as long as no piece has them.
NEVER_PIECES = "\u061d\u2e43\U00011944\U0001e95e\U0002b820"
NAMES = ("[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "[mask]", "##a", "##", "<mask>", "[ MASK ]")


def main() -> None:
    draw = random.Random(22)
    plain, odd = PLAIN.splitlines(), [odd_line(draw) for _ in range(2000)]
    vocabulary = make_vocabulary(draw, plain, odd)
    lines = {"plain": plain, "odd": odd}
    arrays = {"vocabulary": joined(vocabulary)}
    arrays |= {kind: joined(each) for kind, each in lines.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        for setting, options in SETTINGS.items():
            tokenizer = BertTokenizer.from_pretrained(folder, **options)
            for kind, each in lines.items():
                ids = [tokenizer(line)["input_ids"] for line in each]
                arrays[f"{setting}/{kind}/ids"] = np.concatenate(ids).astype(np.int16)
                arrays[f"{setting}/{kind}/lengths"] = np.array(list(map(len, ids)), np.int16)
            normalizer = BertNormalizer(
                handle_chinese_chars=False,
                lowercase=options.get("do_lower_case", True),
                strip_accents=options.get("strip_accents"),
            )
            normal = "\n".join(map(normalizer.normalize_str, every_character()))
            digest = hashlib.sha256(normal.encode()).digest()
            arrays[f"{setting}/digest"] = np.frombuffer(digest, np.uint8)
    np.savez_compressed(Path(__file__).with_name("word_pieces.npz"), **arrays)


def every_character() -> list[str]:
    return [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]


def odd_line(draw: random.Random) -> str:
    separator = draw.choice((" ", " ", "", "  "))
    return separator.join(odd_word(draw) for _ in range(draw.randint(0, 8)))


def odd_word(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.08:
        return "".join(any_character(draw) for _ in range(draw.randint(1, 6)))
    if kind < 0.11:
        return draw.choice(NAMES)
    if kind < 0.13:
        return draw.choice(LETTERS) * draw.randint(95, 105)
    if kind < 0.15:
        return "".join(draw.choice("กขคงจ가나다αβγ") for _ in range(draw.randint(20, 115)))
    pool, other = draw.choice(POOLS), draw.choice(POOLS)
    return "".join(
        draw.choice(pool if draw.random() < 0.8 else other) for _ in range(draw.randint(1, 8))
    )


def any_character(draw: random.Random) -> str:
    while True:
        point = draw.randrange(1, 0x30000 if draw.random() < 0.8 else 0x110000)
        if not 0xD800 <= point < 0xE000:
            return chr(point)


def make_vocabulary(draw: random.Random, plain: list[str], odd: list[str]) -> list[str]:
    """Returns the special pieces, most characters with and without `##`, and frequent endings."""
    counts = Counter("".join([*plain, *odd, *POOLS]).lower() + "".join(POOLS + tuple(plain)))
    for each in NEVER_PIECES:
        del counts[each]
    characters = [
        each
        for each, count in sorted(counts.items())
        if each.isprintable() and not each.isspace() and count > 1 and draw.random() < 0.85
    ]
    syllables = Counter()
    for word in " ".join(plain).lower().split():
        for size in (2, 3, 4):
            syllables.update(word[:size] if i == 0 else f"##{word[i : i + size]}" for i in range(6))
    longer = [piece for piece, count in syllables.items() if count > 2 and len(piece) > 1]
    suffixes = [f"##{each}" for each in characters if draw.random() < 0.9]
    return list(dict.fromkeys([*SPECIAL, *characters, *suffixes, *sorted(longer)]))


def joined(texts: list[str]) -> np.ndarray:
    return np.frombuffer("\0".join(texts).encode(), np.uint8)


if __name__ == "__main__":
    main()
