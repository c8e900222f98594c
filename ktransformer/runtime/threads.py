"""The cores of the machine, and TensorFlow's threads on them."""

import os


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(threads: int | None, *, batches: int = 1) -> None:
    """Limits TensorFlow's threads.

    Args:
        threads: Threads of an operation; None changes nothing.
        batches: Batches that run at the same time. The pool whose threads start operations has
            `threads` for each of them; with a single one they would take turns.

    Raises:
        RuntimeError: TensorFlow has run an operation: it is too late.
    """
    if threads is not None:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads * batches)
