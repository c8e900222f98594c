"""Trains a causal language model on lines of text.

    python -m training.causal_lm.train --text FILE... --validation FILE --output RUN

`--config` and `--set` change settings. RUN is a folder that `ktransformer export` and `verify`
take. Progress goes to stderr; the table that is printed at the end compares the model with a
unigram and a bigram model (see `evaluate.py`). The README has the results on Multi30k.
"""

import argparse
import sys

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

from ktransformer.cli.progress import log_to_stderr
from ktransformer.files import check_new_folder
from ktransformer.runtime.allocator import keep_freed_memory
from ktransformer.tasks import TextGenerator, folder_kind, save
from ktransformer.text import Tokenizer
from training.causal_lm.evaluate import comparison
from training.causal_lm.language_model import fit_language_model
from training.causal_lm.settings import Settings
from training.masked_lm.evaluate import read_text
from training.programs import exit_status


def main() -> int:
    """Runs the training; returns the exit status."""
    keep_freed_memory()
    log_to_stderr()
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
    kind = folder_kind(TextGenerator)
    check_new_folder(options.output, overwrite=options.overwrite, kind=kind)
    settings = Settings.from_arguments(options)
    lines = read_text(options.text, at_least=2)
    validation = read_text([options.validation])
    tokenizer = Tokenizer.train(lines, settings.vocabulary_size)
    result = fit_language_model(settings, tokenizer, lines, validation)
    generator = TextGenerator(result.model, tokenizer)
    save(generator, options.output, overwrite=options.overwrite, history=result.history)
    print(comparison(generator, lines, validation))


if __name__ == "__main__":
    sys.exit(main())
