"""`ktransformer prune`: cuts a run's vocabulary."""

import argparse
import logging

from ktransformer.cli.options import positive

HELP = "cut a run's vocabulary to what a corpus needs"
EXAMPLE = "ktransformer prune runs/de-en --corpus own.de own.en --output runs/de-en-small"
_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "--corpus",
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="text like that to translate, and like its translations; .gz is unpacked",
    )
    parser.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace that RUN if it is there (default: refuse)"
    )
    parser.add_argument(
        "--min-count",
        type=positive,
        default=1,
        metavar="N",
        help="keep the pieces that the corpus uses at least N times, and all single characters",
    )


def run(options: argparse.Namespace) -> None:
    """Writes the pruned run and prints its sizes before and after."""
    from ktransformer.files import resolve
    from ktransformer.fitting.pruning import count_pieces, prune_run
    from ktransformer.saving.run import check_run_path, load_run, save_run
    from ktransformer.text import read_lines

    output = resolve(options.output)
    check_run_path(output, overwrite=options.overwrite)
    texts = list(read_lines(options.corpus))
    run = load_run(options.run)
    pruned = prune_run(run, texts, min_count=options.min_count)
    save_run(pruned, output, overwrite=options.overwrite)
    for name, before, after in (
        ("pieces", run.tokenizer.vocabulary_size, pruned.tokenizer.vocabulary_size),
        ("parameters", run.model.count_params(), pruned.model.count_params()),
        ("tokens of the corpus", *(count_pieces(r.tokenizer, texts).sum() for r in (run, pruned))),
    ):
        print(f"{name}: {before:,} -> {after:,}")
    _log.info("Wrote %s.", output)
