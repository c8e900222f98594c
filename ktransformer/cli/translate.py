"""`ktransformer translate`: translates stdin to stdout, or files to files."""

import argparse
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ktransformer.cli.annotations import add_annotations, annotate_lines
from ktransformer.cli.controls import add_controls, find_controls
from ktransformer.cli.corpus import add_corpus, run_corpus
from ktransformer.cli.engine import add_engine, open_engine, warn_of_texts
from ktransformer.cli.options import positive
from ktransformer.cli.progress import Progress
from ktransformer.errors import InputError

if TYPE_CHECKING:
    from ktransformer.engines import Engine

_log = logging.getLogger(__name__)

HELP = "translate stdin to stdout, line by line, or files to files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_engine(parser)
    parser.add_argument(
        "--n-best", type=positive, default=1, metavar="N", help="lines to print for each line"
    )
    add_controls(parser)
    add_annotations(parser)
    parser.add_argument(
        "--document",
        action="store_true",
        help="take stdin for one document: translate it sentence by sentence, and print all that "
        "is between the sentences as it is",
    )
    parser.add_argument(
        "--terms",
        metavar="FILE.tsv",
        help="a terminology: on each line a source term, a tab and the target term to be written "
        "for it",
    )
    add_corpus(parser)


def run(options: argparse.Namespace) -> None:
    """Prints the translations of each line, in order, or of a document; or translates files."""
    if run_corpus(options):
        return
    if options.document:
        _run_document(options)
    else:
        _run_lines(options)


def _run_document(options: argparse.Namespace) -> None:
    from ktransformer.engines import translate_pieces
    from ktransformer.text.line_blocks import read_byte_blocks
    from ktransformer.text.unknown_characters import UnknownCharacters

    if options.n_best != 1:
        raise InputError(f"--n-best must be 1 with --document; got {options.n_best}.")
    others = {name: getattr(options, name) for name in ("terms", "alignment", "token_scores")}
    others = {**others, **(find_controls(options) or {})}
    for name in (name for name, value in others.items() if value):
        raise InputError(f"--{name.replace('_', '-')} does not go with --document.")
    engine = open_engine(options)
    descriptor = sys.stdin.fileno()
    progress = Progress(sys.stderr, _bytes_left(descriptor))
    unknown = UnknownCharacters(engine.description.characters, engine.description.symbols)
    broken = 0
    for piece, found in translate_pieces(engine, read_byte_blocks(descriptor, "standard input")):
        sys.stdout.buffer.write(found.text.encode(errors="surrogateescape"))
        sys.stdout.flush()
        unknown.add([each.source for each in found.sentences])
        broken += sum(each.broken for each in found.sentences)
        progress.add(piece.decode(errors="replace").splitlines())
    progress.finish()
    warn_of_texts(engine, 0, unknown)
    if broken:
        _log.warning(
            "Sentences of more than %s tokens were broken into %s parts.",
            engine.description.max_source_length,
            broken,
        )


def _run_lines(options: argparse.Namespace) -> None:
    from ktransformer.corpora.lines import on_one_line
    from ktransformer.engines import TermTranslation, translate_blocks
    from ktransformer.text.line_blocks import read_blocks
    from ktransformer.text.unknown_characters import UnknownCharacters

    engine = open_engine(options)
    translate = _find_translation(engine, options)
    descriptor = sys.stdin.fileno()
    progress = Progress(sys.stderr, _bytes_left(descriptor))
    truncated = missing = 0
    unknown = UnknownCharacters(engine.description.characters, engine.description.symbols)
    read: list[str] = []  # The lines of the block that is being translated.
    for translations in translate_blocks(
        engine,
        _keep(unknown.watch(read_blocks(descriptor, "standard input")), read),
        batch_size=options.batch_size,
        n_best=options.n_best,
        on_batch=progress.add,
        translate=translate,
    ):
        truncated += sum(translation.truncated for translation in translations)
        missing += sum(
            each.terms_found - each.terms_written
            for each in translations
            if isinstance(each, TermTranslation)
        )
        texts = [on_one_line(text) for each in translations for text in each.texts]
        sources = [line for line, each in zip(read, translations, strict=True) for _ in each.texts]
        for line in annotate_lines(engine, options, sources, texts):
            print(line)
        sys.stdout.flush()
    progress.finish()
    warn_of_texts(engine, truncated, unknown)
    if missing:
        _log.warning("%s terms of the source are not in the translations.", missing)


def _find_translation(engine: "Engine", options: argparse.Namespace) -> Callable[[list[str]], Any]:
    """Returns the translation of a batch; raises before anything is read."""
    from ktransformer.corpora.job import find_translation

    controls = find_controls(options)
    if options.terms is not None:
        if controls is not None:
            raise InputError("--terms does not go with options of the search.")
        return _with_terms(engine, options)
    return find_translation(engine, n_best=options.n_best, controls=controls)


def _with_terms(engine: "Engine", options: argparse.Namespace) -> Callable[[list[str]], Any]:
    """Returns the translation of a batch with the terminology of a file."""
    from ktransformer.corpora.job import find_translation
    from ktransformer.text.terms import check_terms, read_terms

    if options.n_best > 1:
        raise InputError(f"--n-best must be 1 with --terms; got {options.n_best}.")
    terms = read_terms(options.terms)
    check_terms(terms, characters=engine.description.target_characters, origin=options.terms)
    return find_translation(engine, terms=terms)


def _keep(blocks: Iterable[Sequence[str]], read: list[str]) -> Iterator[Sequence[str]]:
    """Yields blocks, and keeps the lines of the newest one in `read`."""
    for block in blocks:
        read[:] = block
        yield block


def _bytes_left(descriptor: int) -> int | None:
    """Returns how many bytes of a regular file are left to read; None for a pipe or terminal."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR)
