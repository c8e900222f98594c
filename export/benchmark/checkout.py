"""Writes what one checkout of ktransformer makes; `compare_checkouts.py` runs it on two.

    python -P -m export.benchmark.checkout weights SIZE FOLDER
    python -P -m export.benchmark.checkout export SIZE FOLDER SIDE [--only lite] [--beams 1 4]

`weights` writes the random weights that both checkouts export, `FOLDER/SIZE/model.keras`, and the
batches that both train on, `FOLDER/SIZE/training`. `export` writes the exports of these weights and
the sentences to decode to `FOLDER/SIZE/SIDE`.
"""

import argparse
import sys
from pathlib import Path

import keras
import numpy as np

from export.benchmark.prepare import END_ID, FORCED_DECODING, SIZES, random_model, write_workload
from export.benchmark.workload import Ids
from ktransformer.models import PRESETS
from ktransformer.text import Tokenizer
from training.benchmark.training_workload import Batch, TrainingWorkload

SENTENCES, SHORTEST, LONGEST = 128, 6, 24  # Their tokens, the end token included.
TRAINING_LENGTH, TRAINING_TOKENS = 16, 4096  # Of a batch, on each side.
TRAINING_BATCHES = {"T": 2, "B": 1}


def main() -> int:
    """Writes what the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step", choices=("weights", "export"))
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("side", nargs="?")
    parser.add_argument("--only", nargs="+", default=["lite", "saved_model"])
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 4])
    options = parser.parse_args()
    folder = options.folder / options.size
    if options.step == "weights":
        write_weights(options.size, folder)
    else:
        export(options.size, folder, options)
    return 0


def write_weights(size: str, folder: Path) -> None:
    """Writes the weights and the batches that both checkouts share."""
    preset, vocabulary_size = SIZES[size]
    training = folder / "training"
    training.mkdir(parents=True, exist_ok=True)
    random_model(preset, vocabulary_size).save(folder / "model.keras")
    sizes = {**PRESETS[preset], "vocabulary_size": vocabulary_size, "max_length": 128}
    generator = np.random.default_rng(0)
    batches = [random_batch(generator, vocabulary_size) for _ in range(TRAINING_BATCHES[size])]
    TrainingWorkload(sizes, 0.1, 0.1, batches).save(training)


def random_batch(generator: np.random.Generator, vocabulary_size: int) -> Batch:
    """Draws source, target and labels without padding, int32 `[B, T]` each."""
    shape = TRAINING_TOKENS // TRAINING_LENGTH, TRAINING_LENGTH
    source, target, labels = generator.integers(END_ID + 1, vocabulary_size, (3, *shape), "int32")
    return source, target, labels


def export(size: str, folder: Path, options: argparse.Namespace) -> None:
    """Writes the exports of the shared weights, and the sentences that they decode."""
    lite = {"float32": "none"} if "lite" in options.only else {}
    write_workload(
        size,
        keras.saving.load_model(folder / "model.keras"),
        Tokenizer.train(["one two three four five"] * 10, 30),  # Ids alone are decoded.
        FORCED_DECODING,
        random_sentences(SIZES[size][1]),
        options.beams,
        folder / options.side,
        saved_model="saved_model" in options.only,
        quantizations=lite,
    )


def random_sentences(vocabulary_size: int) -> list[Ids]:
    """Draws source ids of different lengths; the same ones each time."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(SHORTEST, LONGEST + 1, SENTENCES)
    return [
        [*generator.integers(END_ID + 1, vocabulary_size, length - 1).tolist(), END_ID]
        for length in lengths
    ]


if __name__ == "__main__":
    sys.exit(main())
