"""The common part of the two PyTorch peers: the plain loop of a training, and a product."""

import os
from collections.abc import Callable, Sequence

import torch

from training.benchmark.training_workload import PAD_ID, Batch


class TorchEngine:
    """Fits a model with Adam, fused into one kernel.

    Args:
        model: Takes source and target ids; gives logits `[B, T, V]`.
        label_smoothing: Of the loss.
    """

    def __init__(self, model: torch.nn.Module, label_smoothing: float) -> None:
        torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
        self._model = model.train()
        self._loss = torch.nn.CrossEntropyLoss(ignore_index=PAD_ID, label_smoothing=label_smoothing)
        self._optimizer = torch.optim.Adam(
            model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True
        )

    def versions(self) -> dict[str, str]:
        """Returns the versions of what trains the model."""
        return {"torch": torch.__version__}

    def fit(self, batches: Sequence[Batch]) -> float:
        """Fits the batches once; returns the loss of the last one."""
        for batch in batches:
            source, target, labels = (torch.from_numpy(ids).long() for ids in batch)
            self._optimizer.zero_grad(set_to_none=True)
            logits = self._model(source, target)
            loss = self._loss(logits.flatten(0, 1), labels.flatten())
            del logits  # Autograd keeps what it needs.
            loss.backward()
            self._optimizer.step()
        return loss.item()

    def product(self, size: int) -> Callable[[], object]:
        """Returns a function that multiplies two square matrices."""
        left, right = (torch.randn(size, size) for _ in range(2))
        return lambda: torch.matmul(left, right)
