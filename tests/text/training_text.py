"""A text that small tokenizers are trained on, an odd one, and what a tokenizer makes of them."""

import unicodedata

import tensorflow as tf

TRAINING_TEXT = [
    "Zwei Hunde laufen über die Straße.",
    "Two dogs are running across the street.",
    "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    "Two young, White males are outside near many bushes.",
    "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "U\u0308ber A\u0308pfel: the marks stand apart.",
    "\uff26\uff55\uff4c\uff4c \uff57\uff49\uff44\uff54\uff48\uff1a\uff11\uff12\uff13",
    "the ﬁne ﬂoor, ½ and ²",
    "  three   spaces    and\u00a0a hard \u3000 one  ",
    "0123456789",
]
ODD_TEXT = [
    "",
    " ",
    "   ",
    "a",
    "😀 emoji 中文 in between",
    "unknown at the end ж",
    "жжж",
    "e\u0301\u0301 zero\u200bwidth",
    "a▁b ▁ ▁▁c",
    "<s> </s> <unk> <pad>",
    "Straßenﬁlm" * 20,
    "12 345 6789",
]


def nfkc_with_single_spaces(text):
    return " ".join(part for part in unicodedata.normalize("NFKC", text).split(" ") if part)


def texts_of(tensor):
    return [text.decode() for text in tensor.numpy().tolist()]


def there_and_back(tokenizer, texts):
    return texts_of(tokenizer.decode(tokenizer.encode(tf.constant(texts))))
