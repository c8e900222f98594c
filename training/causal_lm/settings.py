"""What `train.py` can set."""

import dataclasses

from ktransformer.config.checks import check_range
from training.settings import RecipeSettings


@dataclasses.dataclass(frozen=True)
class Settings(RecipeSettings):
    """The settings of a causal language model and of its training."""

    num_layers: int = 4
    """Blocks of the decoder."""
    d_model: int = 128
    """Width; a multiple of num_heads."""
    num_heads: int = 4
    """Attention heads of the queries."""
    num_kv_heads: int | None = None
    """Attention heads of keys and values; null for num_heads."""
    hidden_dim: int = 512
    """Features of the feed-forward networks' inner layer."""
    dropout: float = 0.1
    """Dropout on embeddings and on the sublayers' outputs, in [0, 1)."""
    activation: str = "gelu"
    """Inner activation of the plain feed-forward network."""
    positions: str = "learned"
    """learned, sinusoidal, rotary, alibi, relative or none."""
    norm: str = "layer"
    """layer or rms."""
    feed_forward: str = "plain"
    """plain, swiglu or geglu."""
    max_length: int = 128
    """Tokens of a row of packed texts, and of the longest text."""
    vocabulary_size: int = 8000
    """The most pieces of the vocabulary."""
    batch_tokens: int = 2048
    """The most tokens of a batch, padding included."""
    epochs: int | None = None
    """Passes over the training text, at most; null for some 4000 updates."""
    patience: int | None = 2
    """Stop after so many epochs without a better validation perplexity; null for never."""
    seed: int = 1
    """Seed of weights, dropout and data order."""

    def __post_init__(self) -> None:
        check_range(self, "epochs", least=1)
        check_range(self, "patience", least=0)
        check_range(self, "seed", least=0, most=2**32 - 1)
