"""Measures a SavedModel under concurrent callers, with nothing of ktransformer.

    python export/load_test.py MODEL/1 [MODEL/2 ...] --callers 1 8 64 --seconds 10 < TEXTS

Every caller is a thread that sends one text, waits for its translation and sends the next. The
models take turns, and each is run by all callers once, unmeasured, before. A table goes to stdout:
texts a second, and the median and the 99th percentile of the milliseconds that a caller waited.
Python gives way to TensorFlow while a request runs, so that the threads do run at once.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.


@contextlib.contextmanager
def quiet_imports():
    """Drops what C++ libraries log while they are loaded, before they read the log level."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with quiet_imports():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  # Its operations are in the graphs.

Signature = Callable[..., dict[str, tf.Tensor]]


def main() -> int:
    """Runs the measurement; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure SavedModels under concurrent callers.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder of a SavedModel")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 64], metavar="N")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="for each row")
    parser.add_argument("--signature", default="serving_default", metavar="NAME")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="TensorFlow's own")
    options = parser.parse_args()
    texts = [line.rstrip(b"\n") for line in sys.stdin.buffer]
    if not texts or min(options.callers) < 1:
        print("load_test: give texts on standard input, and at least 1 caller.", file=sys.stderr)
        return 2
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    try:
        signatures = [tf.saved_model.load(m).signatures[options.signature] for m in options.models]
    except (OSError, KeyError) as error:
        print(f"load_test: {error}", file=sys.stderr)
        return 2
    print("callers\ttexts/s\tp50 ms\tp99 ms\tmodel")
    for callers in options.callers:
        for path, signature in zip(options.models, signatures, strict=True):
            try:
                call_at_once(signature, texts, callers, seconds=0)
                waits, seconds = call_at_once(signature, texts, callers, options.seconds)
            except RequestError as error:
                print(f"load_test: {path}: {error}", file=sys.stderr)
                return 2
            ms = sorted(1000 * wait for wait in waits)
            p50, p99 = statistics.median(ms), ms[int(0.99 * (len(ms) - 1))]
            print(callers, f"{len(ms) / seconds:.1f}", f"{p50:.1f}", f"{p99:.1f}", path, sep="\t")
            sys.stdout.flush()
    return 0


class RequestError(Exception):
    """A request failed."""


def call_at_once(
    signature: Signature, texts: list[bytes], callers: int, seconds: float
) -> tuple[list[float], float]:
    """Lets callers send texts for so long, at least one each.

    Returns:
        The seconds that each request took, and the seconds from the first to the last of them.

    Raises:
        RequestError: A request failed.
    """
    waits: list[float] = []
    failures: list[Exception] = []
    numbers = itertools.count()
    start = time.perf_counter()

    def call() -> None:
        while not failures:
            text = texts[next(numbers) % len(texts)]
            sent = time.perf_counter()
            try:
                signature(tf.constant([text]))["text"].numpy()
            except Exception as error:  # Of a thread; whatever it is, it is said in the main one.
                failures.append(error)
                return
            answered = time.perf_counter()
            waits.append(answered - sent)
            if answered - start >= seconds:
                return

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        reason = str(failures[0]).partition("\n")[0]
        raise RequestError(f"A request failed: {reason or type(failures[0]).__name__}")
    return waits, time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
