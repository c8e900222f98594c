"""An encoder from texts to vectors that are close where the texts mean the same."""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.models import TEXT_POOLINGS, TextEncoder
from ktransformer.tasks.encoder_task import TEXTS, EncoderDescription, EncoderTask
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.registry import register_task
from ktransformer.text import BaseTokenizer

_LEAST_NORM = 1e-12  # PyTorch's, so that a vector of zeros stays one.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEmbedderDescription(EncoderDescription):
    """The metadata of an export of a text embedder.

    Attributes:
        dimensions: D, the features of a vector.
        pooling: What becomes of a text's tokens: `mean`, `cls` or `max`.
        normalize: Whether the vectors have the length 1.
    """

    kind: str = "text embedder"
    dimensions: int
    pooling: str
    normalize: bool


@register_task
class TextEmbedder(EncoderTask):
    """Tokenizer, text encoder and pooling in one: every method is a graph that takes texts.

    As a SavedModel or a .tflite it has one signature, `serving_default`: `texts`, string `[B]`, to
    `embedding`, float32 `[B, D]`, and `truncated`, boolean `[B]`, which texts were cut.

    Args:
        model: A trained `TextEncoder`, a `MaskedLanguageModel` for example; built here if it is
            not yet.
        tokenizer: Its tokenizer.
        pooling: What becomes of a text's encoded tokens: `"mean"` or `"max"` over all of them, or
            `"cls"`, the first.
        normalize: Whether the vectors are divided by their lengths: then their inner products are
            cosines.
        max_length: The longest text, in tokens; None for the model's `max_length`.

    Raises:
        InputError: See `EncoderTask`; or `pooling` is unknown.
        TypeError: `model` is no `TextEncoder`, or `tokenizer` no tokenizer.

    Example:
        ```python
        embedder = ktransformer.load("all-MiniLM-L6-v2")
        vectors = embedder.embed(["Two dogs are running.", "A cat sleeps."])["embedding"]
        cosines = vectors @ tf.transpose(vectors)
        ```

    Reference: Reimers and Gurevych 2019, section 3.
    """

    description_class = TextEmbedderDescription
    kind = description_class.kind
    model_class = TextEncoder
    LITE_SIGNATURES = ("serving_default",)
    SETTINGS = ("pooling", "normalize", "max_length")

    def __init__(
        self,
        model: TextEncoder,
        tokenizer: BaseTokenizer,
        pooling: str = "mean",
        normalize: bool = True,
        max_length: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer, name="text_embedder", max_length=max_length)
        if pooling not in TEXT_POOLINGS:
            raise InputError(f"pooling must be one of {TEXT_POOLINGS}; got pooling={pooling!r}.")
        if not isinstance(normalize, bool):
            raise InputError(f"normalize must be True or False; got normalize={normalize!r}.")
        self.pooling = pooling
        self.normalize = normalize

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {"serving_default": self.embed}

    def describe(self, signatures: Any, **others: Any) -> TextEmbedderDescription:
        return super().describe(signatures, dimensions=self.model.d_model, **others)

    @graph_method(input_signature=[TEXTS])
    def embed(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns texts `[B]` into vectors; the class lists the outputs."""
        ids, truncated = self.encode(texts)
        vectors = tf.cast(self.model.embed(ids, False, pooling=self.pooling), tf.float32)
        if self.normalize:
            lengths = tf.sqrt(tf.reduce_sum(tf.square(vectors), axis=1, keepdims=True))
            vectors /= tf.maximum(lengths, _LEAST_NORM)
        return {"embedding": vectors, "truncated": truncated}
