"""Our .tflite, its signature `ids`, in a plain LiteRT interpreter: no TensorFlow."""

import importlib.metadata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from export.benchmark.workload import Ids, Workload


class Engine:
    """Decodes with `beamK.WEIGHTS.tflite`, a file that holds its search.

    Args:
        work: What is decoded.
        beam: K; chooses the export.
        weights: `float32` or `int8`; likewise.
        threads: Threads of each interpreter.
        interpreters: How many there are, a Python thread each; the interpreter lets go of
            Python's lock while it works.
    """

    def __init__(
        self,
        work: Workload,
        beam: int,
        *,
        weights: str = "float32",
        threads: int = 2,
        interpreters: int = 1,
    ) -> None:
        self._work = work
        path = str(work.folder / f"beam{beam}.{weights}.tflite")
        self._interpreters = [
            Interpreter(model_path=path, num_threads=threads) for _ in range(interpreters)
        ]
        self._runners = [each.get_signature_runner("ids") for each in self._interpreters]
        self._pool = ThreadPoolExecutor(interpreters)

    def versions(self) -> dict[str, str]:
        """Returns the versions of what runs the model."""
        return {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}

    def decode(self, batch: list[Ids]) -> list[Ids]:
        """Decodes one batch, a share of it in each interpreter."""
        count = len(self._runners)
        size = -(-len(batch) // count)
        parts = [batch[i : i + size] for i in range(0, len(batch), size)]
        if len(parts) == 1:
            return self._decode(0, batch)
        found = self._pool.map(self._decode, range(len(parts)), parts)
        return [ids for part in found for ids in part]

    def decode_all(self, batches: list[list[Ids]]) -> list[Ids]:
        """Decodes several batches, as many at a time as there are interpreters, in order."""
        found: list[list[Ids]] = [[] for _ in batches]
        waiting = iter(range(len(batches)))  # Python's lock makes `next` on it safe.

        def work_through(interpreter: int) -> None:
            for i in waiting:
                found[i] = self._decode(interpreter, batches[i])

        list(self._pool.map(work_through, range(len(self._runners))))
        return [ids for batch in found for ids in batch]

    def _decode(self, interpreter: int, batch: list[Ids]) -> list[Ids]:
        source = np.zeros((len(batch), max(map(len, batch))), np.int32)  # 0 is padding.
        for row, ids in zip(source, batch, strict=True):
            row[: len(ids)] = ids
        found = self._runners[interpreter](source=source)["ids"]
        return [self._work.ended(ids) for ids in found.tolist()]
