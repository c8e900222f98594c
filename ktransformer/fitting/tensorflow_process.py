"""The data of a training on JAX, made by TensorFlow in a process of its own."""

import contextlib
import importlib.machinery
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting.averaging import ValidationCallback
from ktransformer.fitting.process_arrays import whole_value
from ktransformer.fitting.processes import agree, process_index

if TYPE_CHECKING:
    from ktransformer.fitting.encoded_data import EncodedData
    from ktransformer.fitting.training_data import Texts
    from ktransformer.text.stored_tokenizer import StoredTokenizer

_SERVER = "ktransformer.fitting.data_server"


class DistantData:
    """A `TrainingData` in a process of its own, on TensorFlow; made by `open_data`.

    With several processes of a training the first one has it, and all get what it answers.
    """

    def __init__(self, process: "subprocess.Popen[bytes] | None") -> None:
        self._process = process

    def describe(self) -> tuple[dict[str, Any], dict[str, list[float]]]:
        """Returns the fingerprint of the text and the counts of dropped pairs."""
        found: tuple[dict[str, Any], dict[str, list[float]]] = self.call("describe")
        return found

    def encode(self, tokenizers: "tuple[StoredTokenizer, StoredTokenizer] | None") -> "EncodedData":
        """Makes the batches; see `TrainingData.encode`."""
        encoded: EncodedData = self.call("encode_stored", tokenizers)
        return encoded

    def bleu_callback(self, model: keras.Model) -> "DistantBleu | None":
        """Returns the callback that scores translations of validation text, if there are any."""
        if not self.call("open_model", type(model), model.get_config()):
            return None
        return DistantBleu(self, model)

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a method of the data, or its class for an empty name."""
        return agree(lambda: self._ask(name, arguments))

    def _ask(self, name: str, arguments: tuple[Any, ...]) -> Any:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise ValueError("The process of the data must run; got none.")
        try:
            pickle.dump((name, arguments), process.stdin)
            process.stdin.flush()
            succeeded, value = pickle.load(process.stdout)
        except (BrokenPipeError, EOFError) as error:
            raise InputError(
                "The process that encodes text and translates on TensorFlow has ended "
                f"(status {process.wait()}); --resume goes on."
            ) from error
        if not succeeded:
            raise value
        return value


class DistantBleu(ValidationCallback):
    """Adds BLEU, chrF and exact matches of validation text to an epoch's logs.

    The data's process translates, on the CPU, with the weights that it is sent.

    Args:
        data: The data, with validation text.
        model: The model that is trained.
    """

    def __init__(self, data: DistantData, model: keras.Model) -> None:
        super().__init__()
        self._data, self._scored = data, model

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the scores to the epoch's logs."""
        weights = [whole_value(weight) for weight in self._scored.weights]
        scores: Mapping[str, float] = self._data.call("score", weights)
        if logs is not None:
            logs.update(scores)


@contextlib.contextmanager
def open_data(
    read: "Callable[[], Texts]", config: Config, folder: Path, **options: Any
) -> Iterator[DistantData]:
    """Opens the data of a training in a process of its own, which ends with the block.

    Args: As those of `TrainingData`; `read` can be pickled.

    Raises:
        InputError: TensorFlow is not installed, or as `TrainingData`.
    """
    process = agree(_check_tensorflow) or (_start() if process_index() == 0 else None)
    try:
        data = DistantData(process)
        data.call("", (read, config, folder), options)
        yield data
    finally:
        if process is not None:
            _end(process)


def _check_tensorflow() -> None:
    if importlib.machinery.PathFinder.find_spec("tensorflow") is None:
        raise InputError(
            "A training on JAX encodes its text on TensorFlow, in a process of its own on the CPU; "
            "install tensorflow and tensorflow-text beside JAX."
        )


def _start() -> "subprocess.Popen[bytes]":
    environment = {
        **os.environ,
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",  # The training has the GPUs.
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.Popen(
        [sys.executable, "-m", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Closes the pipes, at which the process ends; kills it if it does not."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
