"""The engines that are measured, by name."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

THREADS = 2  # Every engine's, where its name does not say otherwise.


@dataclasses.dataclass(frozen=True)
class InEnvironment:
    """An engine in an environment of its own.

    Attributes:
        title: What it is, for people.
        environment: `.venv`, which has ktransformer, or one of the peers' in `.peers`.
        module: Which file holds its `Engine`.
        options: Arguments of the module's `Engine`.
    """

    title: str
    environment: str
    module: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def python(self, peers: Path) -> Path:
        """Returns the interpreter of its environment."""
        if self.environment == ".venv":
            return Path(sys.executable)
        return peers.absolute() / self.environment / "bin" / "python"


@dataclasses.dataclass(frozen=True)
class EngineSpec(InEnvironment):
    """One engine in one mode; its `module` is in `engines/`.

    Attributes:
        threads: How many the whole process has.
        together: Whether it gets all batches at once and keeps several in flight.
        ends: Whether it can run a trained model, whose sentences end by themselves.
        default: Whether it is measured when nothing else is asked for.
    """

    threads: int = THREADS
    together: bool = False
    ends: bool = True
    default: bool = True

    def arguments(self, folder: Path, beam: int) -> list[str]:
        """Returns the arguments with which its interpreter runs `worker.py`."""
        worker = ["-m", "export.benchmark.worker"]
        return [*worker, self.module, str(folder.absolute()), str(beam), json.dumps(self.options)]


def _lite(weights: str) -> dict[str, EngineSpec]:
    title = f"ours, .tflite {weights}"
    each = {"weights": weights, "threads": 1}
    pair = {**each, "interpreters": 2}
    return {
        f"lite-{weights}-product": EngineSpec(
            f"{title}, as LiteEngine runs it", ".venv", "lite_engine", {"weights": weights}
        ),
        f"lite-{weights}-product-2x": EngineSpec(
            f"{title}, as LiteEngine runs it, batches in flight as `translate` has them",
            ".venv",
            "lite_engine",
            {"weights": weights},
            together=True,
            default=False,
        ),
        f"lite-{weights}": EngineSpec(
            f"{title}, 2 threads", ".venv", "lite", {"weights": weights, "threads": THREADS}
        ),
        f"lite-{weights}-split": EngineSpec(
            f"{title}, a batch split between 2 interpreters of 1 thread", ".venv", "lite", pair
        ),
        f"lite-{weights}-2x1": EngineSpec(
            f"{title}, 2 batches in flight", ".venv", "lite", pair, together=True
        ),
        f"lite-{weights}-1t": EngineSpec(
            f"{title}, 1 thread", ".venv", "lite", each, threads=1, default=False
        ),
    }


def _ct2(weights: str) -> dict[str, EngineSpec]:
    title = f"CTranslate2 {weights}"
    each = {"weights": weights, "threads": 1}
    return {
        f"ct2-{weights}-2x1": EngineSpec(
            f"{title}, 2 replicas on 1 thread", "vt", "ct2", {**each, "replicas": 2}, together=True
        ),
        f"ct2-{weights}-1t": EngineSpec(
            f"{title}, 1 thread", "vt", "ct2", each, threads=1, default=weights == "int8"
        ),
    }


BASE = "ct2-float32"
_CT2_INT8 = {"weights": "int8", "threads": THREADS}
ENGINES: dict[str, EngineSpec] = {
    "saved-model": EngineSpec("ours, SavedModel float32", ".venv", "saved_model"),
    "saved-model-compiled": EngineSpec(
        "ours, SavedModel float32, compiled", ".venv", "saved_model", {"compiled": True}
    ),
    **_lite("float32"),
    BASE: EngineSpec("CTranslate2 float32, 1 replica on 2 threads", "vt", "ct2"),
    **_ct2("float32"),
    **_lite("int8"),
    **_ct2("int8"),
    "ct2-int8": EngineSpec(
        "CTranslate2 int8, 1 replica on 2 threads", "vt", "ct2", _CT2_INT8, default=False
    ),
    "hf": EngineSpec("Hugging Face Marian", "vt", "marian"),
    "kerashub-xla": EngineSpec("KerasHub, XLA", "vk", "kerashub", ends=False),
}

# What a cell's ratios compare: the fastest of the first names with the fastest of the others.
# One batch at a time, as many threads on both sides; int8 in whatever mode is each one's best.
# The first `PRODUCT` of them are of one export each, as a user gets it, but for the rule against
# loops, which no peer has.
PRODUCT = 4
_OURS = ("saved-model", "saved-model-compiled", "lite-float32", "lite-float32-split")
_BEST_INT8 = ("ct2-int8-2x1", "ct2-int8-1t")
RATIOS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "CTranslate2, SavedModel": (("saved-model",), (BASE,)),
    "CTranslate2, SavedModel compiled": (("saved-model-compiled",), (BASE,)),
    "CTranslate2, .tflite": (("lite-float32-product",), (BASE,)),
    "CTranslate2, .tflite int8 to int8": (
        ("lite-int8-product", "lite-int8-product-2x"),
        _BEST_INT8,
    ),
    "CTranslate2 float32": (_OURS, (BASE,)),
    "CTranslate2 int8": (
        ("lite-int8", "lite-int8-split", "lite-int8-2x1"),
        _BEST_INT8,
    ),
    "Hugging Face": (_OURS, ("hf",)),
    "KerasHub XLA": (_OURS, ("kerashub-xla",)),
}
