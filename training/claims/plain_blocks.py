"""Causal blocks that lack the norms, the residual connections or both; claims 1 and 3."""

from typing import Any

import keras

from training.claims.language_model import CausalBlock


class PlainBlock(CausalBlock):
    """A block without residual connections: each sublayer replaces what it was given."""

    def after_sublayer(self, norm: keras.layers.Layer, inputs: Any, outputs: Any) -> Any:
        return norm(outputs)


class UnnormedBlock(CausalBlock):
    """A block with residual connections and without norms."""

    def make_norm(self, name: str) -> keras.layers.Layer:
        return keras.layers.Identity(name=name)


class UnnormedPlainBlock(PlainBlock, UnnormedBlock):
    """A block with neither."""


class PreNormBlock(CausalBlock):
    """A block whose residual connections go around the norms."""

    def __init__(self, num_heads: int, hidden_dim: int) -> None:
        super().__init__(num_heads, hidden_dim, norm_first=True)
