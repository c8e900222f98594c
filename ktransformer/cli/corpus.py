"""The files of `translate --input ... --output`: whole corpora, in this process or on Ray."""

import argparse
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

from ktransformer.cli.controls import find_controls
from ktransformer.cli.engine import find_batch_size
from ktransformer.cli.options import positive
from ktransformer.cli.progress import Progress
from ktransformer.errors import InputError

if TYPE_CHECKING:
    from ktransformer.corpora import Progress as CorpusProgress

_log = logging.getLogger(__name__)
_FORMATS = ("text", "jsonl", "parquet")
_NAMES = ("output", "format", "field", "output_field", "workers", "ray")


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    group = parser.add_argument_group(
        "files",
        "docs/corpora.md; whole corpora instead of stdin, and the same command again goes on where "
        "one was killed",
    )
    group.add_argument("--input", nargs="+", metavar="FILE", help="files, plain or gzipped (.gz)")
    group.add_argument(
        "--output", metavar="FOLDER", help="folder for a file of the same name for each"
    )
    group.add_argument(
        "--format",
        choices=_FORMATS,
        help="default: by the names' ends .jsonl and .parquet, or text",
    )
    group.add_argument(
        "--field", metavar="NAME", help="field or column to translate (default: text)"
    )
    group.add_argument(
        "--output-field", metavar="NAME", help="that of the translation (default: translation)"
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="translate on a Ray cluster: auto or HOST:PORT for one that runs, alone for one of "
        "this machine that ends with the command",
    )
    group.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="shards at a time on Ray (default: one a CPU of the cluster)",
    )
    group.add_argument(
        "--shard-bytes",
        type=positive,
        metavar="N",
        help="bytes of text at which a shard ends (default: 524288)",
    )


def run_corpus(options: argparse.Namespace) -> bool:
    """Translates files if the options name some; returns whether they do.

    Raises:
        InputError: Options are missing or do not go together.
    """
    if options.input is None:
        for name in (*_NAMES, "shard_bytes"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name.replace('_', '-')} goes with --input.")
        return False
    if options.output is None:
        raise InputError("--input takes --output, the folder to write.")
    if options.ray is None and options.workers is not None:
        raise InputError("--workers goes with --ray; batches at a time are --threads.")
    if options.ray is not None and options.threads is not None:
        raise InputError("--threads does not go with --ray, where a worker has one; see --workers.")
    for name in ("alignment", "token_scores"):
        if getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} does not go with --input.")
    _translate(options)
    return True


def _translate(options: argparse.Namespace) -> None:
    from ktransformer.corpora import translate_corpus
    from ktransformer.text.terms import read_terms

    more = {} if options.shard_bytes is None else {"shard_bytes": options.shard_bytes}
    reporter = _Reporter()
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints there what its nodes report.
        report = translate_corpus(
            options.model,
            options.input,
            options.output,
            ray=options.ray,
            workers=options.workers if options.ray is not None else options.threads,
            format=options.format,
            field=options.field,
            output_field=options.output_field,
            on_progress=reporter,
            adapter=options.adapter,
            beam_size=options.beam_size,
            length_penalty=options.length_penalty,
            copy=options.copy,
            tag=options.tag,
            n_best=options.n_best,
            batch_size=find_batch_size(options),
            document=options.document,
            sentences=options.sentences,
            terms=None if options.terms is None else read_terms(options.terms),
            controls=find_controls(options),
            **more,
        )
    reporter.finish()
    for warning in report.warnings():
        _log.warning("%s", warning)


class _Reporter:
    """Reports progress on stderr; the rate counts only this run's texts."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def __call__(self, progress: "CorpusProgress") -> None:
        if self._progress is None:
            if progress.earlier:
                _log.info(
                    "%s of %s lines are there from an earlier run.",
                    progress.earlier,
                    progress.total,
                )
            left = progress.total - progress.earlier
            self._progress = Progress(sys.stderr, left, whole="the files")
        new = progress.texts - progress.earlier - self._progress.lines
        self._progress.count(new, new)

    def finish(self) -> None:
        """Reports the total."""
        if self._progress is not None:
            self._progress.finish()
