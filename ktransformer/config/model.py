"""The settings of the model."""

import dataclasses

from ktransformer.config.checks import check, check_choice, check_integers
from ktransformer.config.choices import CHOICES


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and options of the Transformer; see its docstring."""

    num_layers: int = 4
    """Blocks in the encoder, and in the decoder unless num_decoder_layers is set."""
    num_decoder_layers: int | None = None
    """Blocks in the decoder; null for as many as in the encoder."""
    d_model: int = 128
    """Width; a multiple of num_heads."""
    num_heads: int = 4
    """Attention heads."""
    num_kv_heads: int | None = None
    """Heads of keys and values, shared by the heads of queries; null for as many as those."""
    hidden_dim: int = 256
    """Features of the feed-forward networks' inner layer."""
    dropout: float = 0.1
    """Dropout on embeddings and on the sublayers' outputs, in [0, 1)."""
    attention_dropout: float = 0.0
    """Dropout on attention weights, in [0, 1)."""
    hidden_dropout: float = 0.0
    """Dropout on the feed-forward networks' inner features, in [0, 1)."""
    activation: str = "relu"
    """Inner activation of the feed-forward networks: relu, gelu, silu, ...; plain ones alone."""
    feed_forward: str = "plain"
    """plain, or gated: swiglu or geglu."""
    norm_first: bool = False
    """Pre-norm (true) or post-norm (false)."""
    norm: str = "layer"
    """layer normalization, or rms: root mean square normalization."""
    positions: str = "sinusoidal"
    """sinusoidal, sinusoidal_interleaved or learned, added to the embeddings; rotary, alibi or
    relative, in the self-attention; or none."""
    scale_embeddings: bool = True
    """Multiply token vectors by sqrt(d_model)."""
    tie_embeddings: bool = True
    """One table for source, target and output projection; for the last two, without
    shared_vocabulary."""
    output_bias: bool = False
    """A bias for each piece of the target in the output projection."""
    max_length: int = 256
    """The longest source and target in tokens, the end token included."""
    remat: bool = False
    """Compute a block's activations again for the gradient: less memory, more time."""
    dtype: str = "float32"
    """float32, mixed_float16 or mixed_bfloat16."""

    def __post_init__(self) -> None:
        check_integers(self)
        check(self.max_length >= 2, "max_length must be at least 2", max_length=self.max_length)
        for name in ("norm", "feed_forward", "positions", "dtype"):
            check_choice(self, name, *CHOICES[name])
