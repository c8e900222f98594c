"""Opens whatever translates: a run's folder, a SavedModel or a .tflite."""

import os
from pathlib import Path

from ktransformer.engines.engine import Engine, ModelEngine
from ktransformer.engines.lite import LiteEngine
from ktransformer.engines.saved_model import SavedModelEngine
from ktransformer.errors import InputError
from ktransformer.exporting import is_saved_model
from ktransformer.numbers import to_integer
from ktransformer.saving.run import is_run
from ktransformer.tasks import load_translator

_MAX_REPLICAS = 8  # A .tflite's replica holds weights of its own.


def load_engine(
    path: str | Path,
    *,
    beam_size: int | None = None,
    length_penalty: float | None = None,
    threads: int | None = None,
    concurrency: int = 1,
    check: bool = True,
) -> Engine:
    """Opens a run's folder, a SavedModel's folder or a .tflite file.

    Each process opens its own: see `Engine`, for a fork hangs once TensorFlow has run.

    Args:
        path: The folder or file.
        beam_size: Another beam size than the run's; an export's is fixed.
        length_penalty: Likewise.
        threads: CPU threads of LiteRT for a batch; None for as many as there are cores.
            TensorFlow's are set for the process, by `tf.config.threading`.
        concurrency: Batches that `translate_blocks` and `translate_lines` run at the same time,
            on `threads` threads each; of a .tflite at most 8, which share the threads of the rest.
        check: Whether the files are compared with the checksums that were written with them, and
            a SavedModel's operations with those that an export has.

    Raises:
        InputError: It is none of these, or damaged, or fixed to another beam size or length
            penalty, or a SavedModel that could do more than an export does; or `threads` or
            `concurrency` is below 1.
    """
    path = Path(path)
    concurrency = to_integer("concurrency", concurrency, least=1)
    threads = None if threads is None else to_integer("threads", threads, least=1)
    decoding = {"beam_size": beam_size, "length_penalty": length_penalty}
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder.")
    if is_run(path) or not (path.is_file() or is_saved_model(path)):
        engine: Engine = ModelEngine(load_translator(path, check=check, **decoding))
        engine.concurrency = concurrency
        return engine
    if path.is_file():
        replicas = min(concurrency, _MAX_REPLICAS)
        threads = (threads or available_cores()) * concurrency // replicas
        engine = LiteEngine(path, threads=threads, replicas=replicas, check=check)
    else:
        engine = SavedModelEngine(path, check=check)
        engine.concurrency = concurrency
    for name, value in decoding.items():
        fixed = getattr(engine.description.decoding, name)
        if value not in (None, fixed):
            raise InputError(
                f"{path} was exported with a {name.replace('_', ' ')} of {fixed}; another one "
                f"({value}) takes another export."
            )
    return engine


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
