"""`ktransformer score`: the log-probability of each pair of a source and a target."""

import argparse
import logging

from ktransformer.cli.options import add_batch_size

HELP = "print each pair's log-probability and its number of tokens"
EXAMPLE = "ktransformer score runs/en-de --source test.en --target test.de"
_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument("--source", required=True, metavar="FILE", help="source texts")
    parser.add_argument("--target", required=True, metavar="FILE", help="target texts")
    add_batch_size(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the log-probability and the number of tokens of each pair, a line each."""
    from ktransformer.engines import load_translator, score_pairs
    from ktransformer.text import read_aligned

    sources, targets = read_aligned(options.source, options.target)
    translator = load_translator(options.run)
    truncated = 0
    for score in score_pairs(translator, sources, targets, batch_size=options.batch_size):
        print(f"{score.log_probability:.4f}\t{score.tokens}")
        truncated += score.truncated
    if truncated:
        _log.warning(
            "%s pairs were cut: a source to %s tokens or a target to %s.",
            truncated,
            translator.max_source_length,
            translator.max_target_length,
        )
