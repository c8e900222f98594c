"""Too little memory, as TensorFlow and JAX report it, becomes Python's `MemoryError`."""

import contextlib
import re
from collections.abc import Iterator

from ktransformer.errors import first_line

# Keras puts the name of a layer before the message, and the message in bold.
_JAX = re.compile(r"^(?:\x1b\[1m)?(RESOURCE_EXHAUSTED: [^\x1b\n]*)", re.MULTILINE)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raises a `MemoryError` where TensorFlow or JAX runs out of memory in the block."""
    try:
        yield
    except RuntimeError as error:  # JAX's, which has no class of its own.
        found = _JAX.search(str(error))
        if found is None:
            raise
        raise MemoryError(found[1]) from error
    except Exception as error:
        if type(error).__name__ != "ResourceExhaustedError":  # By name: imports no TensorFlow.
            raise
        raise MemoryError(first_line(error)) from error
