"""Serves an engine over stdin and stdout, so that a benchmark can let engines take turns.

A request is a line of JSON; a reply is a line of JSON behind `@@`. `processes.py` is the other
side. The standard library alone, for every environment imports it.
"""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from export.benchmark.meter import memory

START = time.perf_counter()
# Before an engine's packages are imported, which read them then.
for _name in ("OMP", "MKL", "OPENBLAS", "TF"):
    _variable = "TF_NUM_INTRAOP_THREADS" if _name == "TF" else f"{_name}_NUM_THREADS"
    os.environ[_variable] = os.environ.setdefault("BENCHMARK_THREADS", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def serve(
    module: str,
    make: Callable[[ModuleType], Any],
    answer: Callable[..., dict[str, Any]],
    *,
    without: str | None = None,
) -> int:
    """Loads an engine, then answers requests until stdin ends.

    Args:
        module: Where the engine is.
        make: Makes the engine from its module.
        answer: Gets the engine and the fields of a request.
        without: A package that the engine must not import.

    Returns:
        The exit status.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print goes to stderr.

    def reply(fields: dict[str, Any]) -> None:
        print(f"@@{json.dumps(fields)}", file=replies, flush=True)

    try:
        found = importlib.import_module(module)
        imported, resident = time.perf_counter(), memory()["resident_mb"]
        engine = make(found)
        loaded = time.perf_counter()
        if without in sys.modules:
            raise RuntimeError(f"{without} was imported into a process that must do without it.")
        reply(
            {
                "import_seconds": imported - START,
                "import_mb": resident,
                "load_seconds": loaded - imported,
                "versions": engine.versions(),
                **memory(),
            }
        )
        for line in sys.stdin:
            reply(answer(engine, **json.loads(line)))
    except Exception as error:
        traceback.print_exc()
        reply({"error": f"{type(error).__name__}: {error}"[:500]})
        return 1
    return 0
