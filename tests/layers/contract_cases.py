"""Every public layer and model, small, with inputs: what `contract_checks` goes through.

Keras alone, so that a process on JAX can use it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ktransformer import layers, models

SIZES = {"B": 2, "T": 5, "S": 6, "M": 3}
VOCABULARY_SIZE = 13
BLOCK = {"num_heads": 2, "hidden_dim": 12, "dropout": 0.1}
MODEL = {"num_layers": 1, "d_model": 8, **BLOCK}
BERT = {"max_length": 7, "embedding_norm": True, "type_vocabulary_size": 5}
VECTORS, MEMORY = ("B", "T", 8), ("B", "S", 8)


@dataclass(frozen=True)
class Case:
    """A layer, with axes that are letters of `SIZES` where they may be unknown in advance.

    Attributes:
        make: Makes the layer of a dtype policy.
        inputs: The axes of each argument; a dict for a model's named inputs.
        output: The axes of the output.
        mask: `"same"` where the output has the mask of the first input; the name of the ids at
            which a mask starts; None where the output has none.
        integers: Whether the inputs are ids.
    """

    make: Callable[[str], keras.layers.Layer]
    inputs: tuple[Any, ...]
    output: tuple[Any, ...]
    mask: str | None = "same"
    integers: bool = False

    def arrays(self) -> tuple[Any, ...]:
        """Draws the inputs; ids are below every size that they may be compared with."""
        generator = np.random.default_rng(0)

        def draw(axes: tuple[Any, ...]) -> np.ndarray:
            shape = sized(axes)
            if self.integers:
                return generator.integers(0, 5, shape).astype("int32")
            return generator.normal(size=shape).astype("float32")

        return map_axes(draw, self.inputs)

    def ids_with_mask(self) -> np.ndarray:
        """Returns the ids at which the mask of the output starts."""
        first = self.arrays()[0]
        return first[self.mask] if isinstance(first, dict) else first


def map_axes(function: Callable[[tuple[Any, ...]], Any], inputs: tuple[Any, ...]) -> Any:
    """Applies a function to the axes of every input."""
    return tuple(
        {name: function(axes) for name, axes in value.items()}
        if isinstance(value, dict)
        else function(value)
        for value in inputs
    )


def sized(axes: tuple[Any, ...], unknown: str = "") -> tuple[int | None, ...]:
    """Returns the shape that axes stand for; None for each letter that is unknown."""
    return tuple(None if axis in list(unknown) else SIZES.get(axis, axis) for axis in axes)


CASES: dict[type[keras.layers.Layer], Case] = {
    layers.MultiHeadSelfAttention: Case(
        lambda dtype: layers.MultiHeadSelfAttention(2, causal=True, dtype=dtype),
        (VECTORS,),
        VECTORS,
    ),
    layers.MultiHeadCrossAttention: Case(
        lambda dtype: layers.MultiHeadCrossAttention(2, dropout=0.1, dtype=dtype),
        (VECTORS, ("B", "S", 4)),
        VECTORS,
    ),
    layers.FeedForward: Case(
        lambda dtype: layers.FeedForward(12, activation="gelu", dtype=dtype), (VECTORS,), VECTORS
    ),
    layers.GatedFeedForward: Case(
        lambda dtype: layers.GatedFeedForward(12, use_bias=False, dtype=dtype), (VECTORS,), VECTORS
    ),
    layers.RMSNormalization: Case(
        lambda dtype: layers.RMSNormalization(epsilon=1e-4, dtype=dtype), (VECTORS,), VECTORS
    ),
    layers.LayerNormalization: Case(
        lambda dtype: layers.LayerNormalization(epsilon=1e-4, dtype=dtype), (VECTORS,), VECTORS
    ),
    layers.EncoderBlock: Case(
        lambda dtype: layers.EncoderBlock(**BLOCK, dtype=dtype), (VECTORS,), VECTORS
    ),
    layers.DecoderBlock: Case(
        lambda dtype: layers.DecoderBlock(**BLOCK, norm_first=True, dtype=dtype),
        (VECTORS, MEMORY),
        VECTORS,
    ),
    layers.PatchEmbedding: Case(
        lambda dtype: layers.PatchEmbedding(8, 2, image_size=(4, 6), channels=1, dtype=dtype),
        (("B", 4, 4, 1),),  # Another size than that of the positions.
        ("B", 5, 8),
        mask=None,
    ),
    layers.PositionalEmbedding: Case(
        lambda dtype: layers.PositionalEmbedding(
            VOCABULARY_SIZE, 8, max_length=7, positions="learned", dtype=dtype
        ),
        (("B", "T"),),
        VECTORS,
        mask="ids",
        integers=True,
    ),
    layers.TypedEmbedding: Case(
        lambda dtype: layers.TypedEmbedding(
            VOCABULARY_SIZE,
            8,
            max_length=7,
            positions="learned",
            type_vocabulary_size=2,
            norm="layer",
            dtype=dtype,
        ),
        (("B", "T"),),
        VECTORS,
        mask="ids",
        integers=True,
    ),
    models.Encoder: Case(
        lambda dtype: models.Encoder([layers.EncoderBlock(**BLOCK, dtype=dtype)], dtype=dtype),
        (VECTORS,),
        VECTORS,
    ),
    models.Decoder: Case(
        lambda dtype: models.Decoder(
            [layers.DecoderBlock(**BLOCK, dtype=dtype)],
            final_norm=layers.LayerNormalization(dtype=dtype),
            dtype=dtype,
        ),
        (VECTORS, MEMORY),
        VECTORS,
    ),
    models.Transformer: Case(
        lambda dtype: models.Transformer(VOCABULARY_SIZE, **MODEL, max_length=7, dtype=dtype),
        ({"source": ("B", "S"), "target": ("B", "T")},),
        ("B", "T", VOCABULARY_SIZE),
        mask="target",
        integers=True,
    ),
    models.CausalLanguageModel: Case(
        lambda dtype: models.CausalLanguageModel(
            VOCABULARY_SIZE, **MODEL, max_length=7, dtype=dtype
        ),
        (("B", "T"),),
        ("B", "T", VOCABULARY_SIZE),
        mask="ids",
        integers=True,
    ),
    models.TextEncoder: Case(
        lambda dtype: models.TextEncoder(VOCABULARY_SIZE, **MODEL, **BERT, dtype=dtype),
        ({"ids": ("B", "T"), "token_types": ("B", "T")},),
        VECTORS,
        mask="ids",
        integers=True,
    ),
    models.SequenceClassifier: Case(
        lambda dtype: models.SequenceClassifier(VOCABULARY_SIZE, 3, **MODEL, **BERT, dtype=dtype),
        ({"ids": ("B", "T")},),
        ("B", 3),
        mask=None,
        integers=True,
    ),
    models.MaskedLanguageModel: Case(
        lambda dtype: models.MaskedLanguageModel(
            VOCABULARY_SIZE, **MODEL, max_length=7, dtype=dtype
        ),
        ({"ids": ("B", "T"), "positions": ("B", "M")},),
        ("B", "M", VOCABULARY_SIZE),
        mask=None,
        integers=True,
    ),
    models.VisionTransformer: Case(
        lambda dtype: models.VisionTransformer(3, image_size=4, patch_size=2, **MODEL, dtype=dtype),
        (("B", 4, 4, 3),),
        ("B", 3),
        mask=None,
    ),
}
