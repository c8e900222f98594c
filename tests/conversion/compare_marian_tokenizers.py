"""Compares an OPUS-MT tokenizer with Hugging Face's on lines of text and on odd strings.

Two steps, of which the first needs transformers 5.24.0 and sentencepiece 0.2.3 in an environment of
their own, and no ktransformer:

    python tests/conversion/compare_marian_tokenizers.py FOLDER LINES IDS.json
    python -m tests.conversion.compare_marian_tokenizers FOLDER LINES IDS.json

The second prints how many lines differ in TensorFlow, and between TensorFlow and LiteRT.
"""

import json
import sys
from pathlib import Path

_MARKED = ("</s>", "<unk>", "<pad>")  # Tokens that Hugging Face finds inside a text.


def read_lines(path: str) -> list[str]:
    """Reads a file of UTF-8 text."""
    return Path(path).read_text(encoding="utf-8").split("\n")[:-1]


def write_ids(folder: str, lines: list[str], output: str) -> None:
    """Writes what Hugging Face's tokenizer gives for each side."""
    from transformers import MarianTokenizer

    tokenizer = MarianTokenizer.from_pretrained(folder)
    ids = {
        "source": tokenizer(lines)["input_ids"],
        "target": tokenizer(text_target=lines)["input_ids"],
    }
    Path(output).write_text(json.dumps(ids))


def compare(folder: str, lines: list[str], ids: str) -> None:
    """Prints the differences."""
    import numpy as np
    import tensorflow as tf

    from ktransformer.text import Tokenizer
    from tests.text.own_ids import run_in_lite

    table = json.loads(Path(folder, "vocab.json").read_text(encoding="utf-8"))
    theirs = json.loads(Path(ids).read_text())
    for side, expected in theirs.items():
        model = Path(folder, f"{side}.spm").read_bytes()
        tokenizer = Tokenizer.from_table(model, table, start_piece="<start>")
        found = tokenizer.encode(tf.constant(lines)).to_list()
        other = [i for i in range(len(lines)) if found[i] != expected[i]]
        marked = [i for i in other if any(token in lines[i] for token in _MARKED)]
        languages = [i for i in set(other) - set(marked) if lines[i].startswith(">>")]
        dense = tokenizer.encode_dense(tf.constant(lines), 200)[0].numpy()
        lite = (run_in_lite(tokenizer, lines)["ids"] != dense).any(axis=1)
        print(
            f"{side}: {len(lines)} lines, {len(other)} differ: {len(marked)} with a special token "
            f"in the text, {len(languages)} with an unknown >>xx<<, "
            f"{len(other) - len(marked) - len(languages)} others; LiteRT: {np.sum(lite)}"
        )


if __name__ == "__main__":
    step = compare if __package__ else write_ids
    step(sys.argv[1], read_lines(sys.argv[2]), sys.argv[3])
