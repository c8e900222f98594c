"""Translates shards in one process, which opens the model once."""

import functools
from collections.abc import Callable
from typing import Any

from ktransformer.corpora.formats import open_format
from ktransformer.corpora.job import Job, find_translation
from ktransformer.corpora.report import Report
from ktransformer.corpora.shards import Shard
from ktransformer.corpora.workspace import Workspace
from ktransformer.engines import DocumentTranslation, TermTranslation, translate_blocks
from ktransformer.errors import InputError
from ktransformer.text.terms import check_terms
from ktransformer.text.unknown_characters import UnknownCharacters


class ShardTranslator:
    """Translates shards and writes their parts.

    Args:
        job: The job.
        output: The output folder.
        checksums: The SHA-256 of the model and the adapter, which this node's must have.
        concurrency: Batches at the same time, on one thread each.

    Raises:
        InputError: The model cannot be opened, is another, or has no such translation.
    """

    def __init__(
        self,
        job: Job,
        output: str,
        checksums: dict[str, str | None],
        *,
        concurrency: int = 1,
    ) -> None:
        if job.checksums() != checksums:
            raise InputError(f"{job.model} is not the same on every node, or has just changed.")
        self.job = job
        self._workspace = Workspace(output)
        self._engine = job.open(concurrency)
        self._translate = self._find_translation()
        self._format = open_format(job)

    def run(self, shard: Shard) -> Report:
        """Translates a shard, unless that is done already, and returns its report.

        Raises:
            InputError: The input is no longer what was surveyed.
            OSError: The part cannot be written.
        """
        done = self._workspace.read_report(shard.key)
        if done is not None:
            return done
        lines = self._format.read(shard)
        texts = self._format.parse(lines, shard.path, shard.number)
        (found,) = translate_blocks(
            self._engine, [texts], batch_size=self.job.batch_size, translate=self._translate
        )
        report = self._count(shard, texts, found)
        content = self._format.pack(shard.path, self._format.render(lines, found))
        self._workspace.write_part(shard.key, report, content)
        return report

    def close(self) -> None:
        """Closes the input that is open."""
        self._format.close()

    def _find_translation(self) -> Callable[[list[str]], Any]:
        job, engine = self.job, self._engine
        if job.terms is not None:
            check_terms(job.terms, characters=engine.description.target_characters)
        if job.by_sentence:
            given = {**(job.controls or {}), "terms": job.terms}
            engine.translate_document([], **given)
            return functools.partial(engine.translate_document, **given)
        return find_translation(engine, n_best=job.n_best, terms=job.terms, controls=job.controls)

    def _count(self, shard: Shard, texts: list[Any], found: list[Any]) -> Report:
        description = self._engine.description
        unknown = UnknownCharacters(description.characters, description.symbols)
        report = Report(texts=shard.count)
        if self.job.by_sentence:
            sentences = [each for document in found for each in document.sentences]
            unknown.add([each.source for each in sentences])
            report.broken = sum(each.broken for each in sentences)
        else:
            unknown.add(texts)
        report.truncated = sum(each.truncated for each in found)
        report.missing_terms = sum(
            each.terms_found - each.terms_written
            for each in found
            if isinstance(each, (TermTranslation, DocumentTranslation))
        )
        report.unknown_texts, report.unknown = unknown.texts, dict(unknown.counts)
        return report
