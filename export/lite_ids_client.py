"""Translates stdin to stdout with a .tflite of builtin operations: no TensorFlow, no ktransformer.

    python export/lite_ids_client.py IDS.tflite < in > out

Beside the file lies the SentencePiece model that its ids belong to.
"""

import contextlib
import os
import sys

import numpy as np
import sentencepiece
from ai_edge_litert.interpreter import Interpreter

END_ID = 3


@contextlib.contextmanager
def without_logs():
    """Drops what LiteRT logs once, when it is first run."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def main() -> int:
    """Runs the client; returns the exit status."""
    if len(sys.argv) != 2:
        print("usage: lite_ids_client.py IDS.tflite < in > out", file=sys.stderr)
        return 2
    try:
        interpreter = Interpreter(model_path=sys.argv[1])
        tokenizer = sentencepiece.SentencePieceProcessor(f"{sys.argv[1]}.tokenizer.model")
        translate = interpreter.get_signature_runner("ids")
        with without_logs():
            translate(source=np.array([[END_ID]], dtype=np.int32))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"lite_ids_client: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    sys.stdout.reconfigure(encoding="utf-8")
    for line in sys.stdin:
        source = np.array([[*tokenizer.encode(line.rstrip("\n")), END_ID]], dtype=np.int32)
        (ids,) = translate(source=source)["ids"].tolist()
        print(tokenizer.decode(ids[: ids.index(END_ID)]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
