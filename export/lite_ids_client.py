"""Translates stdin to stdout with a .tflite of builtin operations: no TensorFlow, no ktransformer.

    python export/lite_ids_client.py IDS.tflite < in > out

Beside the file lies the SentencePiece model of its ids; a second one where the target has another.
"""

import contextlib
import os
import sys

import numpy as np
import sentencepiece
from ai_edge_litert.interpreter import Interpreter


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


def encode(tokenizer, text):
    """Returns the ids of a text, ended; pieces behind `<unlisted>` count as unknown."""
    unknown, listed = tokenizer.unk_id(), tokenizer.piece_to_id("<unlisted>")
    listed = tokenizer.vocab_size() if listed == unknown else listed
    ids = (i if i < listed else unknown for i in tokenizer.encode(text))
    return np.array([[*ids, tokenizer.eos_id()]], dtype=np.int32)


def main() -> int:
    """Runs the client; returns the exit status."""
    if len(sys.argv) != 2:
        print("usage: lite_ids_client.py IDS.tflite < in > out", file=sys.stderr)
        return 2
    try:
        interpreter = Interpreter(model_path=sys.argv[1])
        tokenizer = sentencepiece.SentencePieceProcessor(f"{sys.argv[1]}.tokenizer.model")
        target = f"{sys.argv[1]}.target_tokenizer.model"
        decoder = (
            sentencepiece.SentencePieceProcessor(target) if os.path.exists(target) else tokenizer
        )
        translate = interpreter.get_signature_runner("ids")
        with without_logs():
            translate(source=encode(tokenizer, ""))
    except (ValueError, RuntimeError, OSError) as error:
        print(f"lite_ids_client: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    sys.stdout.reconfigure(encoding="utf-8")
    for line in sys.stdin:
        (ids,) = translate(source=encode(tokenizer, line.rstrip("\n")))["ids"].tolist()
        print(decoder.decode(ids[: ids.index(decoder.eos_id())]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
