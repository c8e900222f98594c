"""`ktransformer extend`: adds words and symbols to a run's vocabulary."""

import argparse
import logging

HELP = "add words and symbols to a run's vocabulary, to be fine-tuned"
EXAMPLE = 'ktransformer extend runs/en-de --tags "<2de>" "<2fr>" --output runs/en-many'
_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument(
        "--words",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="words of either language that become a piece each, a line each",
    )
    for name, example, where in (
        ("symbols", "<x1>", "texts"),
        ("tags", "<2de>", "texts that only sources contain,"),
    ):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            default=[],
            metavar="TEXT",
            help=f"{where} that become an unbreakable piece each, such as '{example}'",
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
    from ktransformer.files import resolve
    from ktransformer.fitting.extending import extend_vocabulary
    from ktransformer.saving.run import check_run_path, load_run, save_run
    from ktransformer.text import read_lines
    from ktransformer.text.span_symbols import SYMBOLS

    output = resolve(options.output)
    check_run_path(output, overwrite=options.overwrite)
    run = load_run(options.run)
    words = list(read_lines(options.words)) if options.words else []
    symbols = [*options.symbols, *(SYMBOLS if options.copy_symbols else ())]
    extended = extend_vocabulary(run, words, symbols=symbols, tags=options.tags)
    save_run(extended, output, overwrite=options.overwrite)
    for name, before, after in (
        ("pieces", run.tokenizer.vocabulary_size, extended.tokenizer.vocabulary_size),
        ("parameters", run.model.count_params(), extended.model.count_params()),
    ):
        print(f"{name}: {before:,} -> {after:,}")
    _log.info("Wrote %s.", output)
