"""Translates stdin to stdout with a .tflite and nothing of ktransformer.

    python export/lite_client.py MODEL.tflite [THREADS] < in > out

tensorflow-text gives LiteRT the tokenizer's operations; it needs TensorFlow in the process.
"""

import contextlib
import os
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.


@contextlib.contextmanager
def without_logs():
    """Drops what is logged whatever the level: by libraries as they load, by LiteRT at first."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


with without_logs():
    import tensorflow_text
    from ai_edge_litert.interpreter import InterpreterWithCustomOps


def main() -> int:
    """Runs the client; returns the exit status."""
    if len(sys.argv) not in (2, 3):
        print("usage: lite_client.py MODEL.tflite [THREADS] < in > out", file=sys.stderr)
        return 2
    try:
        interpreter = InterpreterWithCustomOps(
            model_path=sys.argv[1],
            custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
            num_threads=int(sys.argv[2]) if len(sys.argv) == 3 else 1,
        )
        translate = interpreter.get_signature_runner("serving_default")
        with without_logs():
            translate(texts=np.array([b""], dtype=object))
    except (ValueError, RuntimeError) as error:
        print(f"lite_client: {sys.argv[1]}: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    for line in sys.stdin.buffer:
        (text,) = translate(texts=np.array([line.rstrip(b"\n")], dtype=object))["text"]
        sys.stdout.buffer.write(text + b"\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
