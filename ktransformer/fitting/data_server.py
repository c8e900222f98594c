"""The process that `tensorflow_process` starts: a `TrainingData` that answers over two pipes."""

import logging
import os
import pickle
import signal
import sys
import threading
import time
from typing import IO, Any

from ktransformer.errors import InputError, printable
from ktransformer.runtime.memory_errors import memory_errors
from ktransformer.runtime.noise import quiet_stderr, set_log_level, without_packages

_POLL_SECONDS = 0.5


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers the requests of a `DistantData` until it closes its pipe."""
    # Keras imports some packages if they are installed, for wrappers and plots.
    with quiet_stderr(), without_packages("sklearn", "matplotlib"):
        from ktransformer.fitting.training_data import TrainingData

    data: Any = None
    while True:
        try:
            name, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            with memory_errors():
                if name:
                    answer = (True, getattr(data, name)(*arguments))
                else:
                    data = TrainingData(*arguments[0], **arguments[1])
                    answer = (True, None)
        except (InputError, OSError, ImportError, MemoryError) as error:
            answer = (False, error)
        try:
            pickle.dump(answer, answers)
            answers.flush()
        except BrokenPipeError:  # The training has ended.
            return


def _end_with_parent() -> None:
    """Ends this process when the training is killed, so that it does not go on writing."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Runs the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The training ends it.
    _end_with_parent()
    set_log_level()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What libraries print is no answer.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("ktransformer").setLevel(logging.INFO)
    _serve(sys.stdin.buffer, answers)


class _Printable(logging.Formatter):
    """Escapes control characters, which names of files may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


if __name__ == "__main__":
    main()
