"""Language models and an image classifier with drawn weights, for tests of what is around them."""

import numpy as np

from ktransformer.models import (
    CausalLanguageModel,
    MaskedLanguageModel,
    SequenceClassifier,
    TextEncoder,
    VisionTransformer,
)
from ktransformer.tasks import (
    GenerationConfig,
    ImageClassifier,
    MaskFiller,
    TextClassifier,
    TextEmbedder,
    TextGenerator,
)
from ktransformer.text import Tokenizer
from tests.layers.layer_checks import built
from tests.small_run import number_pairs

CLASSES = ("circle", "square", "star")


def small_filler(top_k: int = 3, **options) -> MaskFiller:
    """A masked language model of number words."""
    lines = [source for source, _ in number_pairs(300, seed=1)]
    tokenizer = Tokenizer.train(lines, vocabulary_size=60, mask=True)
    sizes = {"num_layers": 2, "d_model": 32, "num_heads": 4, "hidden_dim": 64, "max_length": 12}
    model = built(MaskedLanguageModel(tokenizer.vocabulary_size, **{**sizes, **options}))
    return MaskFiller(model, tokenizer, top_k)


BERT = {
    "num_layers": 2,
    "d_model": 32,
    "num_heads": 4,
    "hidden_dim": 64,
    "max_length": 12,
    "embedding_norm": True,
    "type_vocabulary_size": 2,
}


def small_embedder(**settings) -> TextEmbedder:
    """An encoder of number words, with an embedding as in BERT."""
    lines = [source for source, _ in number_pairs(300, seed=1)]
    tokenizer = Tokenizer.train(lines, vocabulary_size=60)
    return TextEmbedder(
        built(TextEncoder(tokenizer.vocabulary_size, **BERT)), tokenizer, **settings
    )


def small_text_classifier(**settings) -> TextClassifier:
    """A classifier of number words, with an embedding as in BERT."""
    tokenizer = small_embedder().tokenizer
    model = built(SequenceClassifier(tokenizer.vocabulary_size, len(CLASSES), **BERT))
    # So that different texts are of different classes.
    logits = model({"ids": np.arange(4, tokenizer.vocabulary_size)[:, None]})
    model.head.bias.assign(model.head.bias - np.mean(logits, axis=0))
    return TextClassifier(model, tokenizer, CLASSES, **settings)


def small_generator(decoding: GenerationConfig | None = None, **options) -> TextGenerator:
    """A causal language model of number words."""
    lines = [source for source, _ in number_pairs(300, seed=1)]
    tokenizer = Tokenizer.train(lines, vocabulary_size=60)
    sizes = {"num_layers": 1, "d_model": 32, "num_heads": 4, "hidden_dim": 64, "max_length": 12}
    model = CausalLanguageModel(
        tokenizer.vocabulary_size,
        segment_start_id=tokenizer.special_ids.start,
        **{**sizes, **options},
    )
    return TextGenerator(built(model), tokenizer, decoding)


def small_classifier(channels: int = 3) -> ImageClassifier:
    """A classifier of images of 8 by 12 pixels."""
    sizes = {"num_layers": 2, "d_model": 32, "num_heads": 4, "hidden_dim": 64}
    model = VisionTransformer(
        len(CLASSES), image_size=(8, 12), patch_size=4, channels=channels, **sizes
    )
    return ImageClassifier(built(model), CLASSES)


def drawn_images(count: int, height: int, width: int, channels: int = 3, seed: int = 0):
    """Images of noise, uint8 `[count, height, width, channels]`."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, height, width, channels), np.uint8)
