"""ktransformer: the Transformer for Keras 3 and TensorFlow.

The layers and models need Keras alone; the tokenizer, decoding and serving need TensorFlow and
tensorflow-text, which are imported when they are first used.
"""

import importlib
from typing import Any

from ktransformer._version import __version__ as __version__

_SUBMODULES = (
    "config",
    "conversion",
    "decoding",
    "engines",
    "exporting",
    "drawing",
    "fitting",
    "inspection",
    "layers",
    "losses",
    "metrics",
    "models",
    "runtime",
    "saving",
    "schedules",
    "tasks",
    "text",
    "verification",
)


def quiet() -> None:
    """Silences the logs of TensorFlow and LiteRT; call it before anything imports TensorFlow.

    See `ktransformer.runtime.noise.quiet`.
    """
    importlib.import_module("ktransformer.runtime.noise").quiet()


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("ktransformer.engines").load
    if name in _SUBMODULES:
        return importlib.import_module(f"ktransformer.{name}")
    raise AttributeError(f"module 'ktransformer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "load", *_SUBMODULES])
