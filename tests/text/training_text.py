"""A text that small tokenizers are trained on."""

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
