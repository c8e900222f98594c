"""The processes of a training on JAX, which share the rows of every batch.

Where `KERAS_DISTRIBUTION_NUM_PROCESSES` is set, as many processes run the same training, on one
machine or several. The first one alone reads the text and writes files; it tells the others what it
found. A process that ends without saying so ends the others.
"""

import atexit
import contextlib
import os
import pickle
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Client, Connection, Listener
from typing import Any, TypeVar

import keras
import numpy as np

from ktransformer.errors import InputError
from ktransformer.fitting.sharding import ShardedDataParallel, TensorParallel
from ktransformer.runtime.process_environment import ADDRESSES, COUNT, INDEX

T = TypeVar("T")
_KEY_BYTES = 32
_CPU_DEVICES = "xla_force_host_platform_device_count"  # The older way to divide a CPU.
_END = b""  # The message of a process that is done.


class _Processes:
    """The connections between the first process and the others.

    A thread waits on each connection. The kernel closes the connections of a process that is
    killed, whatever it was doing; then this process ends, too, with a sentence: JAX would wait.

    Args:
        index: The number of this process, from 0.
        count: The number of all processes.
        connections: Of the first process to all others, by number; of another to the first.
    """

    def __init__(self, index: int, count: int, connections: dict[int, Connection]) -> None:
        self.index, self.count = index, count
        self.failed_together = False
        self._leaving = False
        self._connections = connections
        self._received: queue.Queue[bytes] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._listen, args=each, daemon=True)
            for each in connections.items()
        ]
        for thread in self._threads:
            thread.start()

    def broadcast(self, content: bytes) -> bytes:
        """Returns the bytes of the first process; those of the others are ignored."""
        if self.index:
            return self._received.get()
        for connection in self._connections.values():
            with contextlib.suppress(OSError):  # Its thread ends this process.
                connection.send_bytes(content)
        return content

    def close(self) -> None:
        """Waits until all processes are done."""
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.send_bytes(_END)
        for thread in self._threads:
            thread.join()

    def abandon(self) -> None:
        """Closes the connections, so that the others end."""
        self._leaving = True
        for connection in self._connections.values():
            with (
                contextlib.suppress(OSError),
                socket.socket(fileno=os.dup(connection.fileno())) as s,
            ):
                s.shutdown(socket.SHUT_RDWR)  # Wakes the thread that waits, as close would not.

    def _listen(self, number: int, connection: Connection) -> None:
        while True:
            try:
                content = connection.recv_bytes()
            except (EOFError, OSError):
                if self._leaving:
                    return
                _leave(
                    f"ktransformer: Process {number} of the training has ended, so process "
                    f"{self.index} ends, too; --resume goes on from the state that was written.\n"
                )
            if content == _END:
                return
            self._received.put(content)


_joined: list[_Processes] = []


def _leave(sentence: str) -> None:
    """Ends the process at once: JAX would wait for processes that are gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os.write(2, sentence.encode())
    os._exit(2)


@contextlib.contextmanager
def join_processes() -> Iterator[None]:
    """Joins the other processes of the training in the block, if there are any.

    The environment names them as `keras.distribution.initialize` says.

    Raises:
        InputError: The environment does not name them as it must, or the backend is not JAX.
    """
    if COUNT not in os.environ:
        yield
        return
    index, count, address = _read_environment()
    if _joined or count == 1:
        yield
        return
    keras.distribution.initialize()
    processes = _Processes(index, count, _connect(index, count, address))
    _joined.append(processes)
    try:
        yield
    except BaseException:
        if not processes.failed_together:
            processes.abandon()
            atexit.register(_leave, "")  # JAX would wait for the others.
            raise
        processes.close()
        raise
    processes.close()
    _joined.clear()


def _read_environment() -> tuple[int, int, str]:
    """Returns the number of this process, how many there are, and the address of the first."""
    if keras.backend.backend() != "jax":
        raise InputError(
            f"{COUNT} asks for several processes, which train on JAX alone: set KERAS_BACKEND=jax."
        )
    words = {name: os.environ.get(name, "") for name in (INDEX, COUNT, ADDRESSES)}
    try:
        index, count = int(words[INDEX]), int(words[COUNT])
    except ValueError:
        index, count = 0, 0
    address = words[ADDRESSES].split(",")[0]
    if not 0 <= index < count or not address.rpartition(":")[0]:
        raise InputError(
            f"{INDEX} must be from 0 to below {COUNT}, and {ADDRESSES} the first process's "
            f"host:port; got {', '.join(f'{name}={word}' for name, word in words.items())}."
        )
    return index, count, address


def _connect(index: int, count: int, address: str) -> dict[int, Connection]:
    """Connects the first process with all others; JAX tells them its port and a key."""
    if index:
        port, key = _tell_port(0, b"\0" * _KEY_BYTES)
        connection = Client((address.rpartition(":")[0].strip("[]"), port), authkey=key)
        connection.send(index)
        return {0: connection}
    key = os.urandom(_KEY_BYTES)
    with Listener(("", 0), backlog=count, authkey=key) as listener:
        _tell_port(int(listener.address[1]), key)
        accepted = [listener.accept() for _ in range(count - 1)]
    return {connection.recv(): connection for connection in accepted}


def _tell_port(port: int, key: bytes) -> tuple[int, bytes]:
    from jax.experimental import multihost_utils

    told = multihost_utils.broadcast_one_to_all(np.array([port, *key], "int32"))
    first, *rest = np.array(told).tolist()
    return first, bytes(rest)


def process_index() -> int:
    """Returns the number of this process, from 0."""
    return _joined[0].index if _joined else 0


def process_count() -> int:
    """Returns how many processes train together."""
    return _joined[0].count if _joined else 1


def agree(make: Callable[[], T]) -> T:
    """Returns what the first process makes; the others wait for it.

    Args:
        make: Called in the first process alone; what it returns can be pickled.

    Raises:
        Exception: What `make` raised, in every process.
    """
    if not _joined:
        return make()
    processes = _joined[0]
    answer: tuple[bool, Any] = (True, None)
    if processes.index == 0:
        try:
            answer = (True, make())
        except (InputError, OSError, ImportError, MemoryError) as error:
            answer = (False, error)
    content = processes.broadcast(pickle.dumps(answer) if processes.index == 0 else b"")
    succeeded, value = answer if processes.index == 0 else pickle.loads(content)
    if not succeeded:
        processes.failed_together = True
        raise value
    result: T = value
    return result


def data_parallel(
    devices: int | None, *, shard_weights: bool = False, tensor_parallel: int = 1
) -> contextlib.AbstractContextManager[Any]:
    """Returns a scope in which devices of JAX share every batch.

    Args:
        devices: The first so many of this process's devices, 1 for None; without a GPU or another
            accelerator these are parts of the CPU, for a trial. With several processes None, for
            all devices of all of them.
        shard_weights: Whether each device keeps only a part of the weights.
        tensor_parallel: So many devices divide the work on each row among them, each with a part
            of the weights; see `TensorParallel`.

    Raises:
        InputError: There are fewer devices, `shard_weights` and `tensor_parallel` are both given,
            several processes have another number of devices, or these do not form groups of
            `tensor_parallel`.
    """
    import jax

    agree(lambda: _check_division(devices, shard_weights, tensor_parallel))
    wanted = jax.device_count() if _joined else devices or 1
    if not _joined and wanted > 1 and _CPU_DEVICES not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX runs already.
            jax.config.update("jax_num_cpu_devices", wanted)
    chosen = jax.devices()[:wanted]
    if len(chosen) < wanted:
        raise InputError(f"There are not {wanted} devices: JAX sees {len(chosen)}.")
    if wanted == 1:
        return contextlib.nullcontext()
    # Each process feeds its own rows.
    names = [f"{device.platform}:{device.id}" for device in chosen]
    parallel: keras.distribution.Distribution
    parallel = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    if shard_weights:
        parallel = ShardedDataParallel(names)
    if tensor_parallel > 1:
        parallel = TensorParallel(names, tensor_parallel)
    scope: contextlib.AbstractContextManager[Any] = parallel.scope()
    return scope


def _check_division(devices: int | None, shard_weights: bool, tensor_parallel: int) -> None:
    """Checks how devices are to share rows and weights; see `data_parallel`."""
    if shard_weights and tensor_parallel > 1:
        raise InputError("--shard-weights and --tensor-parallel both divide the weights: give one.")
    if not _joined:
        option = "--shard-weights" if shard_weights else "--tensor-parallel"
        if (shard_weights or tensor_parallel > 1) and devices in (None, 1):
            raise InputError(f"{option} needs --devices N above 1; got {devices}.")
        return
    import jax

    count, own = jax.device_count(), jax.local_device_count()
    if devices not in (None, count):
        raise InputError(
            "--devices must be left out with several processes, which train on all of their "
            f"devices, {count} here; got {devices}."
        )
    # A process feeds the rows of some groups, or those of one that it shares with others.
    if count % tensor_parallel or (own % tensor_parallel and tensor_parallel % own):
        raise InputError(
            f"--tensor-parallel must divide the {count} devices of all processes, and divide the "
            f"{own} of each or be a multiple of them; got {tensor_parallel}."
        )
