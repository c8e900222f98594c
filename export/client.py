"""Translates stdin to stdout with an exported SavedModel and nothing of ktransformer.

    python export/client.py MODEL/1 < in > out

What a server needs to do, in plain TensorFlow: the tokenizer and the search are in the graph.
tensorflow_text is imported for its operations alone.
"""

import contextlib
import os
import sys

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
    import tensorflow_text  # noqa: F401


def main() -> int:
    """Runs the client; returns the exit status."""
    if len(sys.argv) != 2:
        print("usage: client.py MODEL/NUMBER < in > out", file=sys.stderr)
        return 2
    try:
        model = tf.saved_model.load(sys.argv[1])
    except OSError as error:
        print(f"client: {error}", file=sys.stderr)
        return 2
    translate = model.signatures["serving_default"]
    for line in sys.stdin.buffer:
        (text,) = translate(tf.constant([line.rstrip(b"\n")]))["text"].numpy()
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
