"""Finds the processes of a training on Ray."""

from collections.abc import Iterator
from pathlib import Path


def find_workers(ancestor: int) -> set[int]:
    """Returns the processes of Ray Train's workers among the descendants of a process."""
    parents, workers = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
            if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                workers.add(int(folder.name))
        except OSError:  # It has just ended.
            continue
    return {worker for worker in workers if ancestor in _ancestors(worker, parents)}


def _ancestors(process: int, parents: dict[int, int]) -> Iterator[int]:
    while process in parents:
        process = parents[process]
        yield process
