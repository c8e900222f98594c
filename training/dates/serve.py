"""Reads an exported translator with TensorFlow alone, and translates lines.

    python -m training.dates.serve runs/dates.export/1 < texts

prints `text -> translation` for every line of standard input. It needs tensorflow and
tensorflow-text, and refuses to go on if anything of ktransformer was imported: what it shows is
what a server without ktransformer gets.
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
    import tensorflow_text  # noqa: F401  The tokenizer's operations.


def main() -> int:
    if len(sys.argv) != 2:
        print(f"{sys.argv[0]} takes one folder, an export; got {sys.argv[1:]}.", file=sys.stderr)
        return 2
    try:
        serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
    except OSError as error:
        print(f"{sys.argv[1]} is not an export: {error}", file=sys.stderr)
        return 2
    imported = [name for name in sys.modules if name.split(".")[0] == "ktransformer"]
    if imported:
        print(f"Imported of ktransformer: {', '.join(imported)}.", file=sys.stderr)
        return 1
    texts = sys.stdin.read().splitlines()
    translations = serve(texts=tf.constant(texts, tf.string))["text"].numpy()
    for text, translation in zip(texts, translations, strict=True):
        print(f"{text} -> {translation.decode()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
