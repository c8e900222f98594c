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


def strings(tensor: tf.Tensor) -> list:
    """Decodes a tensor of UTF-8, as nested lists."""
    return np.char.decode(tensor.numpy().astype("S"), "utf-8").tolist()


def with_decoding(translator: Translator, **changes) -> Translator:
    """A translator of the same model with some decoding options changed."""
    decoding = dataclasses.replace(translator.decoding, **changes)
    return Translator(translator.model, translator.tokenizer, decoding)


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
    tokenizer = Tokenizer.train([text for pair in pairs for text in pair], 60, tags=tags)
    target = tokenizer
    if "source_vocabulary_size" in options:
        tokenizer = Tokenizer.train([source for source, _ in pairs], 50)
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
