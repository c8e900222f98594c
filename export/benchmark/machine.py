"""Says on what machine something was measured."""

import os
from pathlib import Path


def describe() -> str:
    """Returns the processor's model, its cores and its vector instructions."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    vectors = [name for name in ("avx2", "avx512f") if name in fields.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0))
    model = fields.get("model name", "processor unknown")
    return f"{cores} cores, {model}, {', '.join(vectors) or 'no AVX2'}"
