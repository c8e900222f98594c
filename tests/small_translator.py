"""Texts for the small run's translator, its outputs as strings, and other decoding options."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ktransformer.config import DecodingConfig
from ktransformer.models import Transformer
from ktransformer.tasks import Translator
from ktransformer.text import Tokenizer
from ktransformer.text.lexicon import Lexicon, train_lexicon
from tests.small_run import number_pairs

TEXTS = ["four zero two", "", "nine", "one " * 60, "   ", "qqq é two", "seven seven seven one six"]

# The pieces of the numbers, in the order of their ids. SentencePiece 0.2.2 and 0.2.3 agree on these
# 40, but neither on their order nor on the pieces that a larger vocabulary has.
PIECES = (
    "<pad> <unk> <s> </s> ▁ 8 ▁eight 4 6 ▁six ▁four 1 2 ▁two ▁one 9 ▁nine 5 3 ▁five ▁three 0 ▁zero "
    "7 z w x u g v s f h r t n o i e ▁seven"
)


def strings(tensor: tf.Tensor) -> list:
    """Decodes a tensor of UTF-8, as nested lists."""
    return np.char.decode(tensor.numpy().astype("S"), "utf-8").tolist()


def with_decoding(translator: Translator, **changes) -> Translator:
    """A translator of the same model with some decoding options changed."""
    decoding = dataclasses.replace(translator.decoding, **changes)
    return Translator(translator.model, translator.tokenizer, decoding)


def number_tokenizer(lines: list[str]) -> Tokenizer:
    """Trains a tokenizer on numbers whose ids do not depend on the release of SentencePiece."""
    order = PIECES.split()
    trained = Tokenizer.train(lines, len(order))
    pieces = sorted(trained.pieces(range(trained.vocabulary_size)), key=order.index)
    return Tokenizer.from_table(trained.model, {piece: i for i, piece in enumerate(pieces)})


def drawn_translator(
    decoding: DecodingConfig | None = None,
    *,
    model_class: type = Transformer,
    tags: Sequence[str] = (),
    **options,
) -> Translator:
    """A translator whose weights are drawn, so that every one of them matters.

    With a `source_vocabulary_size`, whatever it is, the source has a tokenizer of its own.
    """
    pairs = number_pairs(300, seed=1)
    lines = [text for pair in pairs for text in pair]
    tokenizer = Tokenizer.train(lines, 60, tags=tags) if tags else number_tokenizer(lines)
    target = tokenizer
    if "source_vocabulary_size" in options:
        tokenizer = number_tokenizer([source for source, _ in pairs])
        options["source_vocabulary_size"] = tokenizer.vocabulary_size
    sizes = {"num_layers": 1, "d_model": 32, "num_heads": 4, "hidden_dim": 64, "max_length": 30}
    model = model_class(target.vocabulary_size, **{**sizes, **options})
    model.build()
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(generator.normal("gamma" in weight.path, 0.3, weight.shape))
    return Translator(model, tokenizer, decoding, target_tokenizer=target)


def lexicon_of(translator: Translator, *, best: int = 4, frequent: int = 3) -> Lexicon:
    """The likely translations of the pieces, learned from the small run's pairs."""
    pairs = number_pairs(500, seed=1)
    sides = (translator.tokenizer.encode_lines(side) for side in zip(*pairs, strict=True))
    size = translator.tokenizer.vocabulary_size
    return train_lexicon(*sides, size, best=best, frequent=frequent)
