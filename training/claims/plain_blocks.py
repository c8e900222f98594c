"""Decoder blocks without norms, without residual connections or without both; claims 1 and 3."""

from typing import Any

import keras

from ktransformer.layers import DecoderBlock


class PlainBlock(DecoderBlock):
    """A block without residual connections: a sublayer's output replaces its input."""

    def after_sublayer(self, norm: keras.layers.Layer, inputs: Any, outputs: Any) -> Any:
        return norm(outputs)


class UnnormedBlock(DecoderBlock):
    """A block with residual connections and without norms."""

    def make_norm(self, name: str | None = None) -> keras.layers.Layer:
        return keras.layers.Identity(name=name)


class UnnormedPlainBlock(PlainBlock, UnnormedBlock):
    """A block without norms and without residual connections."""
