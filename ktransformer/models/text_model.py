"""The base of the models of text: a vocabulary, a length, and embeddings with positions."""

import operator
from typing import Any

from ktransformer.layers import PositionalEmbedding
from ktransformer.layers.checks import to_size
from ktransformer.models.block_model import BlockModel


class TextModel(BlockModel):
    """A `BlockModel` whose inputs are token ids, ints or floats of the same values.

    Args:
        vocabulary_size: V, the number of ids.
        max_length: The longest text, in tokens.
        pad_id: The id of padding.
        scale_embeddings: Whether token vectors are multiplied by sqrt(D).
        **options: Arguments of `BlockModel`. `positions` is given to the embedding as well.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        max_length: int = 512,
        pad_id: int = 0,
        scale_embeddings: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.autocast = False  # Half precision would round float ids above 256 to other ids.
        self.vocabulary_size = to_size("vocabulary_size", vocabulary_size)
        self.max_length = to_size("max_length", max_length)
        self.pad_id = operator.index(pad_id)
        self.scale_embeddings = scale_embeddings

    def make_embedding(self, name: str, vocabulary_size: int | None = None) -> PositionalEmbedding:
        """Creates an embedding with positions; override it for another one.

        Args:
            name: Name of the layer.
            vocabulary_size: The number of its ids; None for the model's `vocabulary_size`.
        """
        return PositionalEmbedding(
            self.vocabulary_size if vocabulary_size is None else vocabulary_size,
            self.d_model,
            max_length=self.max_length,
            positions=self.positions,
            scale=self.scale_embeddings,
            pad_id=self.pad_id,
            dropout=self.dropout,
            dtype=self.dtype_policy,
            name=name,
        )

    def get_config(self) -> dict[str, Any]:
        names = ("vocabulary_size", "max_length", "pad_id", "scale_embeddings")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
