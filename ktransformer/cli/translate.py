"""`ktransformer translate`: translates stdin to stdout."""

import argparse
import functools
import logging
import os
import stat
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ktransformer.cli.engine import add_engine, open_engine, warn_of_texts
from ktransformer.cli.options import positive
from ktransformer.cli.progress import Progress
from ktransformer.errors import InputError

if TYPE_CHECKING:
    from ktransformer.engines import Engine

_log = logging.getLogger(__name__)

HELP = "translate stdin to stdout, line by line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_engine(parser)
    parser.add_argument(
        "--n-best", type=positive, default=1, metavar="N", help="lines to print for each line"
    )
    parser.add_argument(
        "--terms",
        metavar="FILE.tsv",
        help="a terminology: on each line a source term, a tab and the target term to be written "
        "for it",
    )


def run(options: argparse.Namespace) -> None:
    """Prints the translations of each line, in the order of the lines."""
    from ktransformer.engines import TermTranslation, translate_blocks
    from ktransformer.text.line_blocks import read_blocks
    from ktransformer.text.unknown_characters import UnknownCharacters

    engine = open_engine(options)
    engine.find_signature(options.n_best)
    translate = None if options.terms is None else _with_terms(engine, options)
    descriptor = sys.stdin.fileno()
    progress = Progress(sys.stderr, _bytes_left(descriptor))
    truncated = missing = 0
    unknown = UnknownCharacters(engine.description.characters, engine.description.symbols)
    for translations in translate_blocks(
        engine,
        unknown.watch(read_blocks(descriptor, "standard input")),
        batch_size=options.batch_size,
        n_best=options.n_best,
        on_batch=progress.add,
        translate=translate,
    ):
        for translation in translations:
            print("\n".join(map(_on_one_line, translation.texts)))
            truncated += translation.truncated
            if isinstance(translation, TermTranslation):
                missing += translation.terms_found - translation.terms_written
        sys.stdout.flush()
    progress.finish()
    warn_of_texts(engine, truncated, unknown)
    if missing:
        _log.warning("%s terms of the source are not in the translations.", missing)


def _with_terms(engine: "Engine", options: argparse.Namespace) -> Callable[[list[str]], Any]:
    """Returns the translation of a batch with the terminology of a file."""
    from ktransformer.text.terms import check_terms, read_terms

    if options.n_best > 1:
        raise InputError(f"--n-best must be 1 with --terms; got {options.n_best}.")
    terms = read_terms(options.terms)
    check_terms(terms, characters=engine.description.target_characters, origin=options.terms)
    engine.translate_with_terms([], terms)
    return functools.partial(engine.translate_with_terms, terms=terms)


def _on_one_line(text: str) -> str:
    """Replaces line breaks, which a model with byte pieces may give, by spaces."""
    return text.replace("\n", " ").replace("\r", " ")


def _bytes_left(descriptor: int) -> int | None:
    """Returns how many bytes of a regular file are left to read; None for a pipe or terminal."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
