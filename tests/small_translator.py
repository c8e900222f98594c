"""Texts for the small run's translator, its outputs as strings, and other decoding options."""

import dataclasses

import numpy as np
import tensorflow as tf

from ktransformer.tasks import Translator

TEXTS = ["four zero two", "", "nine", "one " * 60, "   ", "qqq é two", "seven seven seven one six"]


def strings(tensor: tf.Tensor) -> list:
    """Decodes a tensor of UTF-8, as nested lists."""
    return np.char.decode(tensor.numpy().astype("S"), "utf-8").tolist()


def with_decoding(translator: Translator, **changes) -> Translator:
    """A translator of the same model with some decoding options changed."""
    decoding = dataclasses.replace(translator.decoding, **changes)
    return Translator(translator.model, translator.tokenizer, decoding)
