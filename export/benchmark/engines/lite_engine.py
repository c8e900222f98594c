"""Our .tflite as the product runs it: `LiteEngine` chooses interpreters, threads and parts."""

import importlib.metadata
import logging
from concurrent.futures import ThreadPoolExecutor

from export.benchmark.workload import Ids, Workload
from ktransformer.engines import load_engine
from ktransformer.engines.lite import LiteEngine


class Engine:
    """Decodes with `beamK.WEIGHTS.tflite`, a file that holds its search.

    Args:
        work: What is decoded.
        beam: K; chooses the export.
        weights: `float32` or `int8`; likewise.
    """

    def __init__(self, work: Workload, beam: int, *, weights: str = "float32") -> None:
        opened = load_engine(work.folder / f"beam{beam}.{weights}.tflite")
        assert isinstance(opened, LiteEngine)
        self._work, self._engine = work, opened
        self._pool = ThreadPoolExecutor(opened.concurrency)
        logging.getLogger(__name__).warning("%s: %s", opened.path, opened.plan)

    def versions(self) -> dict[str, str]:
        """Returns the versions of what runs the model."""
        return {"ai-edge-litert": importlib.metadata.version("ai-edge-litert")}

    def decode(self, batch: list[Ids]) -> list[Ids]:
        """Decodes one batch."""
        return [self._work.ended(ids) for ids in self._engine.translate_ids(batch)]

    def decode_all(self, batches: list[list[Ids]]) -> list[Ids]:
        """Decodes several batches, as many at a time as `ktransformer translate` has in flight."""
        return [ids for batch in self._pool.map(self.decode, batches) for ids in batch]
