"""The settings of a fit."""

import dataclasses

from ktransformer.config.checks import check, check_choice, check_integers, check_range


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How the model is fitted; what is chosen from the text is in `fitting.defaults`."""

    epochs: int | None = None
    """Passes over the training text, at most; null for some 4000 updates, from 3 to 100 passes."""
    optimizer: str | None = None
    """adam, or muon: orthogonal updates of the matrices, Adam for all else (Jordan et al. 2024).
    null for muon; for adam where learning_rate or schedule is set, or on several GPUs."""
    learning_rate: float | None = None
    """Peak of the schedule; null for 0.004, less for a model wider than 128; for 0.002 where
    optimizer or schedule is set."""
    warmup_steps: int | None = None
    """Updates until the peak, a quarter of all at most: more are cut to that, with a warning. null
    for a tenth of all, at most 1000."""
    schedule: str | None = None
    """How it falls after the peak: inverse_square_root, or cosine, to 0 at the last epoch's end.
    null for cosine; for inverse_square_root where optimizer or learning_rate is set."""
    weight_decay: float = 0.0
    """Share of the learning rate by which an update shrinks the weights (Loshchilov 2019)."""
    label_smoothing: float = 0.1
    """Probability mass spread over the vocabulary, in [0, 1)."""
    rdrop_alpha: float = 0.0
    """R-Drop: weight of the divergence between two passes of each batch; 0 for one pass."""
    guided_alignment: float = 0.0
    """Weight of a loss that makes heads of the cross-attention align the text, such as 0.05 (Garg
    et al. 2019); 0 for none."""
    guided_layer: int | None = None
    """The decoder block that guided_alignment trains, from 0; null for the last but one."""
    guided_heads: int = 1
    """Its first so many heads, of which the mean is trained."""
    clip_norm: float | None = None
    """The most the gradient's global norm may be; null for no limit."""
    accumulate_batches: int = 1
    """Batches whose mean gradient makes one update."""
    average_checkpoints: int | None = None
    """The final weights are the mean over the last so many epochs; with patience, over those
    up to the best one. With validation text, that one epoch alone where it is better than the
    mean. null for a tenth of the epochs, at most 5."""
    patience: int | None = None
    """Stop after so many epochs without a better validation perplexity; null for never."""
    checkpoint_minutes: float = 5.0
    """Minutes between two writings of the training's state within an epoch; 0 for every update."""
    bleu_sentences: int = 200
    """Validation sentences that are translated greedily after each epoch; 0 for none."""
    tensorboard: str | None = None
    """Folder for TensorBoard's logs: curves, learning rate, gradient norm, speed, and after each
    epoch ten validation texts translated, with their attention; null for none."""
    freeze: tuple[str, ...] = ()
    """Parts of the model whose weights do not change: embeddings, encoder, decoder, ...; see
    docs/fine-tuning.md."""
    lora_rank: int = 0
    """Rank of the LoRA adapter that is trained in place of the weights (Hu et al. 2021); 0 for
    none. Needs a run to start from."""
    lora_alpha: float | None = None
    """The adapter's product is scaled by lora_alpha / lora_rank; null for a scale of 1."""
    lora_layers: tuple[str, ...] = ("self_attention", "cross_attention", "feed_forward")
    """Parts of the model whose projections the adapter changes."""
    seed: int = 1
    """Seed of weights, dropout and data order."""

    def __post_init__(self) -> None:
        check_integers(self)
        for name in ("epochs", "warmup_steps", "accumulate_batches", "average_checkpoints"):
            check_range(self, name, least=1)
        check_range(self, "guided_layer", least=0)
        check_range(self, "guided_heads", least=1)
        check_range(self, "guided_alignment", least=0)
        for name in ("rdrop_alpha", "weight_decay", "patience", "bleu_sentences"):
            check_range(self, name, least=0)
        check_range(self, "checkpoint_minutes", least=0)
        check_range(self, "seed", least=0)
        check_range(self, "lora_rank", least=0)
        check_range(self, "lora_alpha", least=0, open_below=True)
        check(bool(self.lora_layers), "lora_layers must name a part", lora_layers=self.lora_layers)
        check_range(self, "learning_rate", least=0, open_below=True)
        check_range(self, "clip_norm", least=0, open_below=True)
        check_range(self, "label_smoothing", least=0, most=1, open_above=True)
        check_choice(self, "optimizer", None, "adam", "muon")
        check_choice(self, "schedule", None, "inverse_square_root", "cosine")

    @property
    def copies(self) -> int:
        """How often a batch holds its rows: R-Drop compares two passes of each."""
        return 2 if self.rdrop_alpha else 1
