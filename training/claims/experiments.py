"""The names of the experiments, in the order of the page.

The module of an experiment has `NAME`, `NUMBER`, `SERIAL` (whether it measures time and must run
alone), a frozen dataclass `Settings` with `seeds`, `QUICK` (settings that take seconds), and three
functions: `measure(settings) -> dict` (slow; `measure.py` saves the result as JSON),
`draw(measurements, path)` (writes a PNG) and `conclude(measurements) -> Finding`.
"""

import importlib
from types import ModuleType

TEXT = (
    "residuals",
    "normalization",
    "learning_rates",
    "heads",
    "directions",
    "score_scaling",
    "embedding_scaling",
    "parallelism",
    "complexity",
    "three_attentions",
    "two_masks",
)
"""Experiments on text: names of modules of this package, ordered by `NUMBER`."""
IMAGES = (
    "position_embeddings",
    "class_token",
    "patch_size",
    "inductive_bias",
    "attention_distance",
)
"""Experiments on images, with higher numbers."""
EXPERIMENTS = TEXT + IMAGES


def load(name: str) -> ModuleType:
    """Imports the module of an experiment."""
    return importlib.import_module(f"training.claims.{name}")
