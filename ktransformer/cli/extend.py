"""`ktransformer extend`: adds words to a run's vocabulary."""

import argparse
import logging

HELP = "add words to a run's vocabulary, to be fine-tuned"
_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "--words",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="words of either language that become a piece each, a line each",
    )
    parser.add_argument(
        "--copy-symbols",
        action="store_true",
        help="add the symbols <c0> to <c9>, which stand for text to copy",
    )
    parser.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace that RUN if it is there (default: refuse)"
    )


def run(options: argparse.Namespace) -> None:
    """Writes the extended run and prints its sizes before and after."""
    from ktransformer.errors import InputError
    from ktransformer.files import resolve
    from ktransformer.fitting.extending import extend_vocabulary, extend_with_copy_symbols
    from ktransformer.saving.run import check_run_path, load_run, save_run
    from ktransformer.text import read_lines

    if bool(options.words) == options.copy_symbols:
        raise InputError("extend takes either --words or --copy-symbols.")
    output = resolve(options.output)
    check_run_path(output, overwrite=options.overwrite)
    run = load_run(options.run)
    if options.copy_symbols:
        extended = extend_with_copy_symbols(run)
    else:
        extended = extend_vocabulary(run, list(read_lines(options.words)))
    save_run(extended, output, overwrite=options.overwrite)
    for name, before, after in (
        ("pieces", run.tokenizer.vocabulary_size, extended.tokenizer.vocabulary_size),
        ("parameters", run.model.count_params(), extended.model.count_params()),
    ):
        print(f"{name}: {before:,} -> {after:,}")
    _log.info("Wrote %s.", output)
