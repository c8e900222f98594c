"""Drops startup logs of TensorFlow and LiteRT, and hides packages that no command uses."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

# Lines that the C++ code of TensorFlow and LiteRT writes at any log level and that no user can act
# on: most are logged while a library loads, before it reads the level.
_NOISE = re.compile(
    rb"[IW]\d{4} [\d:.]+ +\d+ \S+:\d+\]"
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IW] "
    rb"|E\d{4} [\d:.]+ +\d+ (cuda_platform|cuda_dnn|cuda_fft|cuda_blas|util)\.cc:\d+\]"
    rb"|WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|To enable the following instructions: "
    rb"|INFO: Created TensorFlow Lite XNNPACK delegate"
    rb"|\x1b\[33m\(raylet\)"
)
_one_at_a_time = threading.RLock()
_called: list[bool] = []


def quiet() -> None:
    """Silences the logs of TensorFlow and LiteRT for the rest of the process.

    Call it before anything imports TensorFlow: it imports TensorFlow and LiteRT, if installed, and
    drops what they log meanwhile. Errors are still raised as exceptions. With
    `TF_CPP_MIN_LOG_LEVEL=0` in the environment it does nothing.

    Warns:
        UserWarning: TensorFlow was imported before the first call.

    Example:
        ```python
        import ktransformer

        ktransformer.quiet()

        from ktransformer.tasks import Translator
        ```
    """
    if _called:
        return
    _called.append(True)
    if "tensorflow" in sys.modules:
        message = "ktransformer.quiet() must be called before TensorFlow is imported."
        warnings.warn(message, stacklevel=3)
    set_log_level()
    with quiet_stderr(), contextlib.suppress(ImportError):
        import tensorflow as tf

        if os.environ[_LEVEL] != "0":
            tf.get_logger().setLevel(logging.WARNING)  # It is INFO in Jupyter and Python's shell.
    start_litert()


def set_log_level() -> None:
    """Sets TensorFlow's log level to fatal errors, unless the environment sets another."""
    os.environ.setdefault(_LEVEL, "3")


def start_litert() -> None:
    """Triggers LiteRT's once-a-process log of its delegate while stderr is captured."""
    with quiet_stderr(), contextlib.suppress(ImportError):
        import flatbuffers
        import numpy as np
        from ai_edge_litert import schema_py_generated as schema
        from ai_edge_litert.interpreter import Interpreter

        inputs, outputs = np.array([0, 0], np.int32), np.array([1], np.int32)
        tensor = schema.TensorT(shape=[1], type=schema.TensorType.FLOAT32, buffer=0)
        code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.ADD)
        graph = schema.SubGraphT(
            tensors=[tensor, tensor],
            inputs=inputs[:1],
            outputs=outputs,
            operators=[schema.OperatorT(opcodeIndex=0, inputs=inputs, outputs=outputs)],
        )
        model = schema.ModelT(
            version=3, operatorCodes=[code], subgraphs=[graph], buffers=[schema.BufferT()]
        )
        builder = flatbuffers.Builder(256)
        builder.Finish(model.Pack(builder), b"TFL3")
        Interpreter(model_content=bytes(builder.Output())).allocate_tensors()


@contextlib.contextmanager
def without_packages(*names: str) -> Iterator[None]:
    """Hides packages from imports in the block, as if they were not installed.

    Packages that are imported already stay. After the block, all can be imported again.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own sign for it.
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drops known log lines that the block writes to the process's stderr.

    All other lines are written when the block ends, those of other threads as well. Meant for
    imports, whose C++ code bypasses Python's `sys.stderr`.
    """
    if os.environ.get(_LEVEL) == "0" or sys.stderr is None:
        yield
        return
    with _one_at_a_time, tempfile.TemporaryFile() as held_back:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held_back.seek(0)
            for line in held_back:
                if not _NOISE.match(line):
                    os.write(2, line)
