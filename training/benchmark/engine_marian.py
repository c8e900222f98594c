"""Hugging Face's `MarianMTModel`, with random weights."""

import torch
import transformers

from training.benchmark import torch_fitting
from training.benchmark.training_workload import PAD_ID, TrainingWorkload


class EncoderDecoder(torch.nn.Module):
    """The model, from ids to logits."""

    def __init__(self, work: TrainingWorkload) -> None:
        super().__init__()
        sizes = work.sizes
        sides = {}
        for side in ("encoder", "decoder"):
            sides |= {
                f"{side}_layers": sizes["num_layers"],
                f"{side}_attention_heads": sizes["num_heads"],
                f"{side}_ffn_dim": sizes["hidden_dim"],
            }
        config = transformers.MarianConfig(
            vocab_size=sizes["vocabulary_size"],
            d_model=sizes["d_model"],
            max_position_embeddings=sizes["max_length"],
            activation_function="relu",
            scale_embedding=True,
            dropout=work.dropout,
            attention_dropout=0.0,
            activation_dropout=0.0,
            pad_token_id=PAD_ID,
            decoder_start_token_id=2,
            eos_token_id=3,
            forced_eos_token_id=None,
            use_cache=False,
            **sides,
        )
        self.model = transformers.MarianMTModel(config)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, T, V]`."""
        mask = (source != PAD_ID).long()
        return self.model(
            input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False
        ).logits


class Engine(torch_fitting.TorchEngine):
    """Fits the model.

    Args:
        work: What is trained.
    """

    def __init__(self, work: TrainingWorkload) -> None:
        torch.manual_seed(1)
        super().__init__(EncoderDecoder(work), work.label_smoothing)

    def versions(self) -> dict[str, str]:
        """Returns the versions of what trains the model."""
        return {**super().versions(), "transformers": transformers.__version__}
