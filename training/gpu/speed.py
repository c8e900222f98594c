"""Measures a training on one device: ours on JAX, and PyTorch's where it is installed."""

import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import keras

from ktransformer.config import TrainingConfig
from ktransformer.fitting import compile_training_model
from ktransformer.layers import MultiHeadCrossAttention, MultiHeadSelfAttention
from ktransformer.models import Transformer
from training.benchmark.training_workload import TrainingWorkload

# Dense operations a second of the card, by precision: float32 products in TF32. Data sheets.
PEAKS = {
    "H100": {"float32": 495e12, "mixed_bfloat16": 989e12},
    "H200": {"float32": 495e12, "mixed_bfloat16": 989e12},
    "A100": {"float32": 156e12, "mixed_bfloat16": 312e12},
}


def compare(folder: Path, precision: str, *, rounds: int) -> dict[str, Any]:
    """Measures all ways of training a workload, in turns.

    Args:
        folder: The workload.
        precision: `float32` or `mixed_bfloat16`.
        rounds: Passes over the batches of each way, after one that compiles.

    Returns:
        Of each way `tokens_per_second`, the median, and its `share_of_peak` where the card is
        known; and ours as a `ratio` to PyTorch's.
    """
    work = TrainingWorkload.load(folder)
    ways: dict[str, Callable[[], float]] = {
        "ours": open_ours(work, precision, fused=False),
        "ours, fused attention": open_ours(work, precision, fused=True),
    }
    if importlib.util.find_spec("torch"):
        from training.gpu.torch_training import open_torch

        ways["PyTorch, compiled"] = open_torch(work, precision)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses = {name: run() for name, run in ways.items()}  # Compiles.
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            losses[name] = ways[name]()
            seconds[name].append(time.perf_counter() - started)
    found: dict[str, Any] = {
        name: {
            "tokens_per_second": work.tokens / statistics.median(taken),
            "share_of_peak": share_of_peak(work, precision, statistics.median(taken)),
            "loss": losses[name],
        }
        for name, taken in seconds.items()
    }
    statistics_of_memory = jax.devices()[0].memory_stats() or {}
    found["peak_bytes"] = statistics_of_memory.get("peak_bytes_in_use")
    if "PyTorch, compiled" in found:
        best = max(found[name]["tokens_per_second"] for name in ways if name.startswith("ours"))
        found["ratio"] = best / found["PyTorch, compiled"]["tokens_per_second"]
    return found


def share_of_peak(work: TrainingWorkload, precision: str, seconds: float) -> float | None:
    """Returns the share of the card's peak that the needed operations make; None if unknown."""
    kind = jax.devices()[0].device_kind
    peaks = next((peaks for name, peaks in PEAKS.items() if name in kind), None)
    return None if peaks is None else work.operations / seconds / peaks[precision]


def open_ours(work: TrainingWorkload, precision: str, *, fused: bool) -> Callable[[], float]:
    """Compiles our model; returns what fits all batches once and gives their mean loss."""
    keras.utils.set_random_seed(1)
    model: keras.Model = Transformer(**work.sizes, dropout=work.dropout, dtype=precision)
    model.build()
    for kind in (MultiHeadSelfAttention, MultiHeadCrossAttention):
        for layer in model._flatten_layers():
            if isinstance(layer, kind):
                layer.fused_attention = fused
    config = TrainingConfig(label_smoothing=work.label_smoothing)
    trained = compile_training_model(model, config)
    batches = _Batches(work)

    def fit() -> float:
        history = trained.fit(batches, verbose=0, shuffle=False)
        return float(history.history["loss"][-1])

    return fit


class _Batches(keras.utils.PyDataset):
    """The batches of a workload as Keras takes them."""

    def __init__(self, work: TrainingWorkload) -> None:
        super().__init__()
        self._work = work

    def __len__(self) -> int:
        return len(self._work.batches)

    def __getitem__(self, place: int) -> Any:
        source, target, labels = self._work.batches[place]
        return {"source": source, "target": target}, labels
