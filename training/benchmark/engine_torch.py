"""PyTorch's `nn.Transformer`, with a tied embedding and sinusoidal positions."""

import torch
from torch import nn

from training.benchmark import torch_fitting
from training.benchmark.training_workload import PAD_ID, TrainingWorkload


class EncoderDecoder(nn.Module):
    """The Transformer of the same sizes: post-norm, one table of embeddings, sinusoids."""

    def __init__(self, work: TrainingWorkload) -> None:
        super().__init__()
        sizes = work.sizes
        width = sizes["d_model"]
        self.scale = width**0.5
        self.table = nn.Embedding(sizes["vocabulary_size"], width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        frequencies = 10000.0 ** (-torch.arange(0, width, 2) / width)
        angles = torch.outer(torch.arange(sizes["max_length"]), frequencies)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], 1))
        self.dropout = nn.Dropout(work.dropout)
        self.transformer = nn.Transformer(
            width,
            sizes["num_heads"],
            sizes["num_layers"],
            sizes["num_layers"],
            sizes["hidden_dim"],
            work.dropout,
            batch_first=True,
        )
        # It has dropout on attention weights and inner features too, which the others have not.
        for module in self.transformer.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0
            if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                module.dropout = nn.Identity()

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns vectors with positions, `[B, T, D]`."""
        return self.dropout(self.table(ids) * self.scale + self.positions[: ids.shape[1]])

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Returns logits `[B, T, V]`."""
        length = target.shape[1]
        padding = source == PAD_ID
        hidden = self.transformer(
            self.embed(source),
            self.embed(target),
            tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return hidden @ self.table.weight.T


class Engine(torch_fitting.TorchEngine):
    """Fits the model.

    Args:
        work: What is trained.
    """

    def __init__(self, work: TrainingWorkload) -> None:
        torch.manual_seed(1)
        super().__init__(EncoderDecoder(work), work.label_smoothing)
