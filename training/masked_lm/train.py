"""Trains a masked language model on lines of text.

    python -m training.masked_lm.train --text FILE... --validation FILE --output RUN

`--config` and `--set` change settings. RUN is a folder with `model.keras`, `tokenizer.model`,
`history.json` and `curve.png`. Progress goes to stderr; the table that is printed at the end
compares the model with a unigram and a bigram model (see `evaluate.py`). The README has what came
of it on Multi30k.
"""

import argparse
import json
import sys
from pathlib import Path

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

import matplotlib as mpl
import numpy as np

from ktransformer.files import FolderKind, check_new_folder, new_folder
from ktransformer.runtime.allocator import keep_freed_memory
from ktransformer.tasks import MaskFiller
from ktransformer.tasks.folder import folder_files, write
from ktransformer.text import Tokenizer
from training.masked_lm.evaluate import comparison, read_text
from training.masked_lm.language_model import History, fit_language_model
from training.masked_lm.settings import Settings
from training.programs import exit_status

mpl.use("Agg")

from matplotlib import pyplot as plt

KIND = FolderKind(
    "the folder of a masked language model",
    (*folder_files(MaskFiller), r"history\.json", r"curve\.png"),
    required=("model.keras", "tokenizer.model"),
)


def main() -> int:
    """Runs the training; returns the exit status."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", nargs="+", required=True, metavar="FILE", help="training text")
    parser.add_argument("--validation", required=True, metavar="FILE", help="validation text")
    parser.add_argument("--output", required=True, metavar="RUN", help="the folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace RUN if it is there")
    Settings.add_arguments(parser)
    options = parser.parse_args()
    return exit_status("train", lambda: train(options))


def train(options: argparse.Namespace) -> None:
    """Trains tokenizer and model, writes the folder, and prints the comparison on validation."""
    check_new_folder(options.output, overwrite=options.overwrite, kind=KIND)
    settings = Settings.from_arguments(options)
    lines = read_text(options.text, at_least=2)
    validation = read_text([options.validation])
    tokenizer = Tokenizer.train(lines, settings.vocabulary_size, mask=True)
    model, history = fit_language_model(settings, tokenizer, lines, validation)
    filler = MaskFiller(model, tokenizer)
    with new_folder(options.output, overwrite=options.overwrite, kind=KIND) as folder:
        write(filler, folder)
        text = json.dumps(history, indent=2)
        (folder / "history.json").write_text(text + "\n", encoding="utf-8")
        draw_curve(history, folder / "curve.png")
    print(comparison(filler, lines, validation))


def draw_curve(history: History, path: Path) -> None:
    """Draws the cross-entropy and the accuracy on masked tokens by epoch."""
    epochs = range(1, len(history["loss"]) + 1)
    figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for name, prefix in (("training (dropout on)", ""), ("validation", "val_")):
        losses.plot(epochs, np.log(history[f"{prefix}perplexity"]), label=name)
        accuracies.plot(epochs, history[f"{prefix}accuracy"], label=name)
    losses.set_ylabel("cross-entropy, nats per masked token")
    accuracies.set_ylabel("accuracy on masked tokens")
    for axes in (losses, accuracies):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
