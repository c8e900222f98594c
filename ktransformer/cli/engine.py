"""The engine that `translate` and `evaluate` run: its options, how it is opened, its warnings."""

import argparse
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING

from ktransformer.cli.options import (
    A_PROGRAM,
    add_adapter,
    add_decoding,
    add_tag,
    add_threads,
    positive,
)

if TYPE_CHECKING:
    from ktransformer.engines import Engine
    from ktransformer.text.unknown_characters import UnknownCharacters

_log = logging.getLogger(__name__)
_BATCH_SIZE = 32


def add_engine(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Adds the model, which may be left out if `optional`, and how it translates."""
    parser.add_argument(
        "model",
        nargs="?" if optional else None,
        metavar="MODEL",
        help=f"folder of a run, folder of a SavedModel, or .tflite file; {A_PROGRAM}",
    )
    add_adapter(parser)
    add_decoding(parser)
    add_tag(parser)
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help=f"inputs of a batch (default: {_BATCH_SIZE})",
    )
    add_threads(parser)


def find_batch_size(options: argparse.Namespace) -> int:
    """Returns the inputs of a batch: those of `--batch-size`, or the default."""
    return _BATCH_SIZE if options.batch_size is None else int(options.batch_size)


def open_engine(options: argparse.Namespace, other: str | None = None) -> "Engine":
    """Opens the model, or an `other` one, which has no adapter.

    The engine runs several batches at once, each on one thread; of a .tflite without `--threads`
    it chooses by itself.
    """
    from ktransformer.engines import available_cores, load_engine
    from ktransformer.runtime.threads import set_threads

    batches = options.threads or available_cores()
    if "tensorflow" in sys.modules:
        with contextlib.suppress(RuntimeError):  # It already runs, with threads of its own.
            set_threads(1, batches=batches)
    path = options.model if other is None else other
    chosen = options.threads is None and os.path.isfile(path)
    return load_engine(
        path,
        adapter=options.adapter if other is None else None,
        beam_size=options.beam_size,
        length_penalty=options.length_penalty,
        copy=options.copy,
        tag=options.tag,
        threads=None if chosen else 1,
        concurrency=None if chosen else batches,
    )


def warn_of_texts(engine: "Engine", truncated: int, unknown: "UnknownCharacters") -> None:
    """Warns of texts that were truncated and of characters that the tokenizer does not know."""
    if truncated:
        _log.warning(
            "%s texts were cut to %s tokens.", truncated, engine.description.max_source_length
        )
    if unknown.texts:
        _log.warning("%s", unknown)
