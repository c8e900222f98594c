"""A model as the server runs it: what a request asks is cut into items that batches join."""

import asyncio
import dataclasses
import gc
import logging
import time
from collections.abc import AsyncIterator, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.engines import Engine, load_engine
from ktransformer.errors import InputError
from ktransformer.serving.batching import Batcher, BatchReport, end_all, run_all
from ktransformer.serving.observer import Observer
from ktransformer.serving.options import ServingOptions
from ktransformer.serving.translated import (
    TranslatedText,
    join,
    translate_texts,
    with_alternatives,
)
from ktransformer.serving.versions import Version, find_versions, latest_change
from ktransformer.tasks.document_outputs import split_lines

_log = logging.getLogger("ray.serve")  # Ray writes it, as JSON, beside its own.
_PIECE_BYTES = 1 << 12  # Of a long text: some fifty sentences, which others may run between.


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A model to be served.

    Attributes:
        path: Its .tflite, SavedModel or run, or a folder of numbered ones.
        source: The code of its source language, such as `en`.
        target: The code of its target language.
        tag: The tag that asks a multilingual model for this pair; None for none.
    """

    path: Path
    source: str
    target: str
    tag: str | None = None

    @property
    def name(self) -> str:
        """The model's name in TensorFlow Serving's API."""
        return f"{self.source}-{self.target}"


class OpenModel:
    """One version of a model, opened, with the batches that run on it.

    Args:
        spec: The model.
        version: The version that is opened.
        options: The server's.
        observer: Told of batches and texts.

    Raises:
        InputError: It is no translator, or damaged, or has not the tag.
    """

    def __init__(
        self,
        spec: ModelSpec,
        version: Version,
        options: ServingOptions,
        observer: Observer,
    ) -> None:
        self.spec = spec
        self.version = version.number
        self._path = version.path
        self.engine: Engine = load_engine(
            version.path, tag=spec.tag, threads=1, concurrency=options.threads
        )
        self.engine.warmup()
        self._batcher = Batcher(
            self._run,
            concurrency=options.threads,
            max_size=options.batch_tokens,
            max_waiting=options.waiting_tokens,
            on_batch=self._report,
        )
        self._options = options
        self._observer = observer
        observer.set_version(spec.name, version.number)

    @property
    def signatures(self) -> tuple[str, ...]:
        """The signatures of the model."""
        return self.engine.signatures

    @property
    def most_alternatives(self) -> int:
        """The most alternatives of a translation."""
        has_beam = "beam" in self.signatures
        return self.engine.description.decoding.beam_size - 1 if has_beam else 0

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's inputs."""
        return self.engine.inputs(signature)

    def check_room(self, asked: Sequence[Any]) -> None:
        """Checks that a request can be taken now.

        Args:
            asked: Its texts, or its inputs: texts, numbers, or nested lists of them.

        Raises:
            TooBusyError: Too much is waiting.
        """
        self._batcher.check_room(count_tokens(asked))

    async def translate(
        self, text: str, *, alternatives: int = 0, deadline: float
    ) -> TranslatedText:
        """Translates a text of any length.

        Args:
            text: The text.
            alternatives: Further translations of each sentence, at most `most_alternatives`.
            deadline: When the translation is of no use any more, by `time.monotonic`.

        Raises:
            DeadlineError: The deadline came first.
        """
        found = join([piece async for piece in self.stream(text, deadline=deadline)])
        if alternatives == 0:
            return found
        kind = ("beam", alternatives + 1)
        translations = await run_all(
            self._submit(kind, each.source, deadline) for each in found.sentences
        )
        return with_alternatives(found, translations, alternatives + 1)

    async def stream(self, text: str, *, deadline: float) -> AsyncIterator[TranslatedText]:
        """Yields the translations of a text's pieces, of whole lines, in order.

        Raises:
            DeadlineError: The deadline came first.
        """
        pieces = [piece.decode() for piece in split_lines(text.encode(), _PIECE_BYTES)] or [""]
        tasks = [asyncio.ensure_future(self._submit("text", piece, deadline)) for piece in pieces]
        found: list[TranslatedText] = []
        try:
            for task in tasks:
                found.append(await task)
                yield found[-1]
            self._report_text(join(found))
        finally:
            await end_all(tasks)

    async def annotate(self, source: str, target: str, *, deadline: float) -> Any:
        """Scores and aligns the tokens of a sentence's translation; see `Engine.annotate`."""
        return await self._submit("annotate", (source, target), deadline)

    async def run(
        self, signature: str, inputs: dict[str, Any], *, deadline: float
    ) -> dict[str, np.ndarray]:
        """Runs a signature of the model on a request's inputs; see `Engine.run_tagged`."""
        size = count_tokens([*inputs.values()])
        found: dict[str, np.ndarray] = await self._batcher.submit(
            ("signature", signature), inputs, size, deadline
        )
        return found

    async def _submit(self, kind: Hashable, item: Any, deadline: float) -> Any:
        return await self._batcher.submit(kind, item, count_tokens(item), deadline)

    def _run(self, kind: Hashable, items: list[Any]) -> Sequence[Any]:
        try:
            return self._run_batch(kind, items)
        except InputError as error:  # It may name the file, which is no caller's concern.
            raise InputError(str(error).replace(str(self._path), self.spec.name)) from error

    def _run_batch(self, kind: Hashable, items: list[Any]) -> Sequence[Any]:
        if kind == "text":
            return translate_texts(self.engine, items)
        if kind == "annotate":
            sources, targets = zip(*items, strict=True)
            return self.engine.annotate(sources, targets)
        assert isinstance(kind, tuple)
        name, argument = kind
        if name == "beam":
            return self.engine.translate_n_best(items, argument)
        return run_signature(self.engine, argument, items)

    async def drain(self) -> None:
        """Waits until nothing runs or waits."""
        await self._batcher.drain()

    def _report_text(self, found: TranslatedText) -> None:
        self._observer.add_texts(self.spec.name, [found])
        if self._options.log_texts:
            _log.info("Translated.", extra={"source": found.source, "translation": found.text})

    def _report(self, report: BatchReport) -> None:
        self._observer.add_batch(self.spec.name, report, self._batcher.waiting_size)


class ServedModel:
    """A model and the version of it that is served now.

    Attributes:
        spec: The model.
        current: The version that requests get.

    Args:
        spec: The model.
        options: The server's.
        observer: Told of batches, texts and versions.

    Raises:
        InputError: There is no such translator, or it is damaged.
    """

    def __init__(
        self,
        spec: ModelSpec,
        options: ServingOptions,
        observer: Observer,
    ) -> None:
        self.spec = spec
        self._options = options
        self._observer = observer
        # The latest change of each version that could not be opened; None where that is unknown.
        self._refused: dict[Version, tuple[int, int] | None] = {}
        self._problem = ""  # Why no version was found, when they were last looked for.
        opened = self._open_newest(find_versions(spec.path))
        if opened is None:  # Says why.
            opened = OpenModel(spec, find_versions(spec.path)[0], options, observer)
        self.current: OpenModel = opened

    async def reload(self) -> bool:
        """Opens the highest version, if it is a new one, and serves it; the old one finishes.

        A version that cannot be opened, such as one that is still being copied, is tried again;
        until then, and while the model's folder is away, the old one is served.

        Returns:
            Whether another version is served now.
        """
        versions = [each for each in self._find_versions() if each.number > self.current.version]
        opened = await asyncio.to_thread(self._open_newest, versions)
        if opened is None:
            return False
        old, self.current = self.current, opened  # Requests that have the old one keep it.
        _log.info("%s is at version %s now.", self.spec.name, opened.version)
        await old.drain()
        del old
        await asyncio.to_thread(gc.collect)  # Its interpreters are in cycles.
        return True

    def _find_versions(self) -> list[Version]:
        """Returns the versions; none where they cannot be listed, which is logged once."""
        try:
            found, problem = find_versions(self.spec.path), ""
        except (InputError, OSError) as error:
            found, problem = [], str(error)
        if problem and problem != self._problem:
            _log.warning("No new version of %s is found: %s", self.spec.name, problem)
        self._problem = problem
        return found

    def _open_newest(self, versions: Sequence[Version]) -> OpenModel | None:
        """Opens the first version that can be opened; None if there is none.

        One that cannot is tried again only when it has changed, such as a file that is copied.
        """
        for version in versions:
            change = None  # Unknown where it cannot be looked at.
            try:
                change = latest_change(version.path)
                if self._refused.get(version) == change:
                    continue
                return OpenModel(self.spec, version, self._options, self._observer)
            except (InputError, OSError) as error:
                if self._refused.get(version, ()) != change:
                    _log.warning(
                        "Version %s of %s is not served: %s", version.number, self.spec.name, error
                    )
                self._refused[version] = change
        return None


def count_tokens(value: Any) -> int:
    """Estimates the tokens of a text, a number, or of all that nested lists hold.

    A text has one for each four bytes of UTF-8, and the end token; a number is one.
    """
    if isinstance(value, list | tuple):
        return sum(map(count_tokens, value))
    if isinstance(value, str):
        value = value.encode()
    return len(value) // 4 + 1 if isinstance(value, bytes) else 1


def deadline_in(seconds: float) -> float:
    """Returns the time so many seconds from now, by `time.monotonic`."""
    return time.monotonic() + seconds


def run_signature(
    engine: Engine, signature: str, requests: list[dict[str, Any]]
) -> list[dict[str, np.ndarray]]:
    """Runs a signature for several requests: at once where it takes texts alone, else in turn."""
    alone = signature == "document" or any(
        set(inputs) != {"texts"} or not isinstance(inputs["texts"], list) for inputs in requests
    )
    if alone or len(requests) == 1:
        return [engine.run_tagged(signature, **inputs) for inputs in requests]
    counts = [len(inputs["texts"]) for inputs in requests]
    texts = [text for inputs in requests for text in inputs["texts"]]
    outputs = engine.run_tagged(signature, texts=np.array(texts, dtype=object))
    places = np.cumsum(counts)[:-1]
    columns = {name: np.split(values, places) for name, values in outputs.items()}
    return [{name: parts[i] for name, parts in columns.items()} for i in range(len(requests))]
