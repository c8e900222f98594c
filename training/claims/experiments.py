"""The experiments, in the order of the page, and what each of their modules has.

`NAME`, `NUMBER`, `SERIAL` (whether it measures time and must run alone), a frozen dataclass
`Settings` with `seeds`, `QUICK` (settings that take seconds), and three functions:
`measure(settings) -> dict` (the slow part; what it returns goes into a JSON file),
`draw(measurements, path)` (a PNG) and `conclude(measurements) -> Finding`.
"""

import importlib
from types import ModuleType

EXPERIMENTS = (
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
"""Names of modules beside this one, by `NUMBER`."""


def load(name: str) -> ModuleType:
    """Imports an experiment."""
    return importlib.import_module(f"training.claims.{name}")
