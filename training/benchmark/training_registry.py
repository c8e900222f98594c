"""What is measured: the sizes, the engines, the goals."""

import dataclasses
import json
from pathlib import Path

from export.benchmark.registry import InEnvironment

THREADS = 2  # Every engine's.
SIZES = {"tiny": 10_000, "base": 32_000}  # Presets of our model, and the vocabulary.
SPEED_GOAL = 1.3  # Times the best peer's tokens a second, at least.
MEMORY_GOAL = 0.8  # Of PyTorch's peak memory, at most.
OWN_MEMORY_GOAL = 1.0  # Of PyTorch's peak memory beyond the imports, at most.
MEMORY_PEER = "torch-passive"


@dataclasses.dataclass(frozen=True)
class TrainingEngine(InEnvironment):
    """One engine in one mode; its `module` is `engine_MODULE.py` beside this file.

    Attributes:
        variables: Of its environment, as `NAME=VALUE`.
        ours: Whether it is not a peer.
        judged: Whether the goals are about it; else it is there to explain.
    """

    variables: tuple[str, ...] = ()
    ours: bool = False
    judged: bool = True

    def command(self, peers: Path, folder: Path) -> list[str]:
        """Returns what starts it on a workload."""
        options = json.dumps(self.options)
        worker = ["-m", "training.benchmark.training_worker", self.module]
        python = str(self.python(peers))
        return ["env", *self.variables, python, *worker, str(folder.absolute()), options]


_PLAIN, _XLA = {"jit_compile": False}, {"jit_compile": True}
ENGINES = {
    "ours": TrainingEngine(
        "ours, as the command", ".venv", "ours", {**_PLAIN, "whole_logits": False}, ours=True
    ),
    "ours-logits": TrainingEngine(
        "ours, compiled with a loss", ".venv", "ours", {**_PLAIN, "whole_logits": True}, ours=True
    ),
    "ours-xla": TrainingEngine(
        "ours, compiled with a loss, XLA",
        ".venv",
        "ours",
        {**_XLA, "whole_logits": True},
        ours=True,
    ),
    "torch": TrainingEngine("PyTorch nn.Transformer", "vt", "torch"),
    "torch-passive": TrainingEngine(
        "PyTorch nn.Transformer, threads that sleep",
        "vt",
        "torch",
        variables=("OMP_WAIT_POLICY=PASSIVE",),
    ),
    "marian": TrainingEngine("Hugging Face Marian", "vt", "marian"),
    "keras": TrainingEngine("keras.layers.MultiHeadAttention", "vk", "keras_attention", _PLAIN),
    "keras-xla": TrainingEngine(
        "keras.layers.MultiHeadAttention, XLA", "vk", "keras_attention", _XLA
    ),
    "keras-kept": TrainingEngine(
        "keras.layers.MultiHeadAttention, freed memory kept",
        "vk",
        "keras_attention",
        _PLAIN,
        # What `ktransformer.runtime.allocator.keep_freed_memory` does.
        variables=("MALLOC_TRIM_THRESHOLD_=-1", "MALLOC_MMAP_MAX_=0", "MALLOC_ARENA_MAX=1"),
        judged=False,
    ),
}
