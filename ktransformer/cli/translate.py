"""`ktransformer translate`: translates stdin to stdout, or files to files."""

import argparse
import functools
import logging
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ktransformer.cli.annotations import add_annotations, annotate_lines
from ktransformer.cli.controls import add_controls, find_controls
from ktransformer.cli.corpus import add_corpus, run_corpus
from ktransformer.cli.documents import (
    add_documents,
    check_options,
    find_document_options,
    open_terms,
)
from ktransformer.cli.engine import add_engine, find_batch_size, open_engine
from ktransformer.cli.options import positive
from ktransformer.cli.progress import Progress
from ktransformer.cli.text_warnings import TextWarnings

if TYPE_CHECKING:
    from ktransformer.engines import Engine

_log = logging.getLogger(__name__)

HELP = "translate stdin to stdout, line by line, or files to files"
EXAMPLE = """\
echo 'A dog runs.' | ktransformer translate runs/en-de
ktransformer translate en-de.tflite --beam-size 4 < texts.en > texts.de"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_engine(parser)
    parser.add_argument(
        "--n-best", type=positive, default=1, metavar="N", help="lines to print for each line"
    )
    add_controls(parser)
    add_annotations(parser)
    add_documents(parser)
    parser.add_argument(
        "--terms",
        metavar="FILE.tsv",
        help="a terminology: on each line a source term, a tab and the target term to be written "
        "for it",
    )
    add_corpus(parser)


def needs_tensorflow(options: argparse.Namespace) -> bool:
    """Tells whether the command imports TensorFlow; lines through a .tflite of ids may not."""
    by_sentence = options.document or options.sentences
    if by_sentence or options.input is not None or not os.path.isfile(options.model):
        return True
    from ktransformer.exporting.lite.dependencies import (
        needs_tensorflow as file_needs_tensorflow,
    )

    return file_needs_tensorflow(options.model)


def run(options: argparse.Namespace) -> None:
    """Prints the translations of each line, in order, or of a document; or translates files."""
    check_options(options)
    if run_corpus(options):
        return
    if options.document:
        _run_document(options)
    else:
        _run_lines(options)


def _run_document(options: argparse.Namespace) -> None:
    from ktransformer.engines import translate_pieces
    from ktransformer.text.line_blocks import read_byte_blocks

    engine = open_engine(options)
    given = find_document_options(engine, options)
    descriptor = sys.stdin.fileno()
    progress = Progress(sys.stderr, _bytes_left(descriptor))
    warnings = TextWarnings(engine)
    blocks = read_byte_blocks(descriptor, "standard input")
    for piece, found in translate_pieces(engine, blocks, **given):
        sys.stdout.buffer.write(found.text.encode(errors="surrogateescape"))
        sys.stdout.flush()
        warnings.add([each.source for each in found.sentences], [found])
        progress.count(len(piece.decode(errors="replace").splitlines()), len(piece))
    progress.finish()
    warnings.log()


def _run_lines(options: argparse.Namespace) -> None:
    from ktransformer.corpora.lines import on_one_line
    from ktransformer.engines import translate_blocks
    from ktransformer.text.line_blocks import read_blocks
    from ktransformer.text.several_sentences import SeveralSentences

    engine = open_engine(options)
    translate = _find_translation(engine, options)
    descriptor = sys.stdin.fileno()
    progress = Progress(sys.stderr, _bytes_left(descriptor))
    warnings, several = TextWarnings(engine), SeveralSentences()
    read: list[str] = []  # The lines of the block that is being translated.
    for translations in translate_blocks(
        engine,
        _keep(read_blocks(descriptor, "standard input"), read),
        batch_size=find_batch_size(options),
        n_best=options.n_best,
        on_batch=progress.add,
        translate=translate,
    ):
        texts = [on_one_line(text) for each in translations for text in each.texts]
        sources = [line for line, each in zip(read, translations, strict=True) for _ in each.texts]
        for line in annotate_lines(engine, options, sources, texts):
            print(line)
        sys.stdout.flush()
        warnings.add(read, translations)
        if not options.sentences:
            several.add(read)
    progress.finish()
    warnings.log()
    if several.count():
        _log.warning(
            "%s lines %s several sentences, of which a model of single sentences may leave some "
            "out: --sentences translates each by itself.",
            several.count(),
            "hold" if several.exact else "seem to hold",
        )


def _find_translation(engine: "Engine", options: argparse.Namespace) -> Callable[[list[str]], Any]:
    """Returns the translation of a batch; raises before anything is read."""
    from ktransformer.corpora.job import find_translation

    if options.sentences:
        given = find_document_options(engine, options)
        return functools.partial(engine.translate_document, **given)
    terms = None if options.terms is None else open_terms(engine, options)
    controls = find_controls(options)
    return find_translation(engine, n_best=options.n_best, terms=terms, controls=controls)


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
