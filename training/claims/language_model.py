"""The causal language model of the experiments on text."""

from typing import Any, ClassVar

import keras

from ktransformer.layers import DecoderBlock
from ktransformer.models import CausalLanguageModel


class LanguageModel(CausalLanguageModel):
    """A small `CausalLanguageModel`, made of one kind of block, with sinusoidal positions.

    Unless an experiment says otherwise it has the options of Vaswani et al. 2017 (ReLU, post-norm,
    scaled embeddings) and no dropout.

    Args:
        vocabulary_size: V, the number of ids.
        d_model: D, the width. The feed-forward networks have 2 D inner features.
        block: The class of the blocks, a `DecoderBlock`.
        max_length: The longest text, in tokens.
        **options: Other arguments of `CausalLanguageModel`.
    """

    block_defaults: ClassVar[dict[str, Any]] = {"num_heads": 4, "positions": "sinusoidal"}

    def __init__(
        self,
        vocabulary_size: int,
        *,
        d_model: int,
        block: type[DecoderBlock] = DecoderBlock,
        max_length: int = 64,
        **options: Any,
    ) -> None:
        self.block = block
        defaults = {"hidden_dim": 2 * d_model, "scale_embeddings": True}
        super().__init__(
            vocabulary_size, d_model=d_model, max_length=max_length, **{**defaults, **options}
        )

    def make_decoder_block(self) -> keras.layers.Layer:
        """Creates one block of the chosen class."""
        return self.block(**self.block_arguments())
