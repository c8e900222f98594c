"""The interface of everything that translates: strings in, strings out."""

import abc
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ktransformer.engines.task_model import TaskModel
from ktransformer.errors import InputError
from ktransformer.numbers import to_integer
from ktransformer.tasks import TranslatorDescription
from ktransformer.tasks.inputs import to_texts
from ktransformer.tasks.translator import TEXT_SIGNATURES, Translator
from ktransformer.text.base_tokenizer import find_tag
from ktransformer.text.line_limits import cut_line, is_empty

BATCH_CHARACTERS = 1 << 14  # 32 lines of 512 characters: the most of a batch of long lines.


class Translation(NamedTuple):
    """The translations of one text.

    Attributes:
        texts: The translations, best first.
        scores: Their scores, log-probability / length ** length_penalty.
        truncated: Whether the source was cut to the longest that the model reads.
    """

    texts: list[str]
    scores: list[float]
    truncated: bool

    @property
    def text(self) -> str:
        """The best translation."""
        return self.texts[0]


class Engine(abc.ABC):
    """Translates texts; a form of engine implements `run`.

    Threads may share an engine; processes may not. An open export is not pickled, and a process
    that was forked after TensorFlow had run hangs at its first call: start processes with `spawn`
    and open an engine in each.

    Attributes:
        kind: The form of the model: `run`, `SavedModel` or `tflite`.
        description: The description of the model.
        path: Where it lies; None for a model of this process.
        concurrency: Batches that `translate_blocks` runs at the same time, from a thread each; 1
            unless the engine was opened for more.

    Args:
        description: The description of the model: lengths, beam size, signatures.
        path: Where it lies; None for a model of this process.
    """

    kind: str

    def __init__(self, description: TranslatorDescription, path: Path | None = None) -> None:
        self.description = description
        self.path = path
        self.concurrency = 1
        self._tag: str | None = None

    @abc.abstractmethod
    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature of texts; a subclass implements it.

        Several threads may call it at a time.

        Args:
            signature: One of `signatures` that takes texts: `serving_default` or `beam`.
            texts: An array `[B]` of UTF-8, dtype object; B is at least 1, and `batch_size` where
                the description has one.

        Returns:
            `text`, bytes `[B]` (of `beam` `[B, K]`, best first); `score`, float32 of the same
            shape, log-probability / length ** length_penalty; `truncated`, boolean `[B]`, whether
            the text was cut.

        Raises:
            InputError: There is no such signature, or it takes other inputs.
        """

    def warmup(self) -> None:
        """Runs every signature of texts once, so that no user's request is the first."""
        texts = np.array([b"a"] * (self.description.batch_size or 1), dtype=object)
        for name in TEXT_SIGNATURES:
            if name in self.signatures:
                self.run(name, texts)

    def set_tag(self, tag: str) -> None:
        """Puts a tag before every text from now on.

        Raises:
            InputError: The model has no such symbol, or the export puts another before every text.
        """
        self._tag = self._find_tag(tag)

    def _find_tag(self, tag: str) -> str | None:
        """Returns the symbol that a tag names; None where the model itself puts it there."""
        symbol, own = find_tag(tag, self.description.symbols), self.description.decoding.tag
        if own is None:
            return symbol
        if find_tag(own, self.description.symbols) != symbol:
            raise InputError(
                f"tag must be {own}, which the model puts before every text; got {tag!r}."
            )
        return None

    def translate(self, texts: Sequence[str], *, tag: str | None = None) -> list[str]:
        """Returns the best translation of each text."""
        return [translation.text for translation in self.translate_n_best(texts, tag=tag)]

    def translate_n_best(
        self, texts: Sequence[str], n_best: int = 1, *, tag: str | None = None
    ) -> list[Translation]:
        """Translates texts at once, or in batches of the size that the export is fixed to.

        Args:
            texts: The texts, as a list, a NumPy array or a tensor; none gives none. Of each at most
                64 characters are read for each token of the longest source; one that is longer is
                truncated.
            n_best: The number of translations of each, at most the beam size.
            tag: A symbol of the model to put before each text, such as `2de` for `<2de>`; None for
                that of `set_tag`, if any. A text may as well begin with the symbol itself.

        Raises:
            InputError: `n_best` is not from 1 to the beam size, the model has no such tag, or is
                fixed to another, a signature is missing, or one of
                `texts` is no string.
            TypeError: `texts` is a single string.
        """
        given = to_texts(texts)
        symbol = self._tag if tag is None else self._find_tag(tag)
        signature = self.find_signature(n_best)
        size = self.description.batch_size or max(len(given), 1)
        translations: list[Translation] = []
        for start in range(0, len(given), size):
            chosen = given[start : start + size]
            padding = [b""] * (size - len(chosen)) if self.description.batch_size else []
            read = [_read(text, self.description.max_source_length, symbol) for text in chosen]
            batch = np.array([*(content for content, _ in read), *padding], dtype=object)
            found = _translations(self.run(signature, batch), n_best)
            translations += [
                translation._replace(truncated=translation.truncated or longer)
                for translation, (_, longer) in zip(found, read, strict=False)
            ]
        return translations

    def find_signature(self, n_best: int = 1) -> str:
        """Returns the name of the signature that gives `n_best` translations of texts.

        Raises:
            InputError: There is none, or `n_best` is not from 1 to the beam size.
        """
        beam_size = self.description.decoding.beam_size
        if not 1 <= to_integer("n_best", n_best) <= beam_size:
            raise InputError(
                f"n_best must be at least 1 and at most the beam size, {beam_size}; got {n_best}."
            )
        wanted = ("serving_default", "beam") if n_best == 1 else ("beam",)
        for name in wanted:
            if name in self.signatures:
                return name
        raise InputError(
            f"This export has no signature {' or '.join(wanted)}, only "
            f"{', '.join(self.description.signatures)}."
        )

    @property
    def signatures(self) -> tuple[str, ...]:
        """The signatures that `run` takes."""
        return self.description.signatures


def _read(text: str | bytes, max_length: int, tag: str | None) -> tuple[bytes, bool]:
    """Returns the part of a text that is read, in UTF-8, and whether the text is longer.

    A `tag` is put before it, unless it is empty.
    """
    whole = text if isinstance(text, str) else text.decode(errors="replace")
    if tag is not None and not is_empty(whole):
        whole = f"{tag} {whole}"
    cut = cut_line(whole, max_length)
    return cut.encode(), cut is not whole


def _translations(outputs: dict[str, np.ndarray], n_best: int) -> list[Translation]:
    rows = len(outputs["text"])
    texts = outputs["text"].reshape(rows, -1)[:, :n_best]
    scores = outputs["score"].reshape(rows, -1)[:, :n_best]
    return [
        Translation([text.decode() for text in row], values.tolist(), bool(cut))
        for row, values, cut in zip(texts, scores, outputs["truncated"], strict=True)
    ]


class ModelEngine(Engine):
    """Runs a translator of this process: a run's, or one of a model in training.

    Args:
        translator: The translator.
    """

    kind = TaskModel.kind

    def __init__(self, translator: Translator) -> None:
        self._model = TaskModel(translator)
        super().__init__(self._model.description)
        self.translator = translator

    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        return self._model.run(signature, texts=texts)


def translate_lines(
    engine: Engine, lines: Sequence[str], *, batch_size: int = 32, n_best: int = 1
) -> list[Translation]:
    """Translates lines in batches of like length, and gives them back in order.

    Args:
        engine: The engine.
        lines: The texts.
        batch_size: Texts translated at once.
        n_best: Translations of each; at most the engine's beam size.

    Returns:
        The translations of each line.
    """
    (translations,) = translate_blocks(engine, [lines], batch_size=batch_size, n_best=n_best)
    return translations


def translate_blocks(
    engine: Engine,
    blocks: Iterable[Sequence[str]],
    *,
    batch_size: int = 32,
    n_best: int = 1,
    on_batch: Callable[[list[str]], object] = lambda texts: None,
) -> Iterator[list[Translation]]:
    """Translates a stream of any length, of which it holds one block at a time.

    Within a block, lines of like length go together and `engine.concurrency` batches run at the
    same time. Neither changes the translation of a line, unless the export has a shortlist: a
    batch has one for all its lines.

    Args:
        engine: The engine.
        blocks: Lines that are there together. The larger a block, the more alike its batches.
        batch_size: Texts in a batch, which also holds at most `BATCH_CHARACTERS`.
        n_best: Translations of each; at most the engine's beam size.
        on_batch: Called in this thread with the texts of each batch that is done.

    Yields:
        For each block, the translations of each line.

    Raises:
        InputError: As `Engine.translate_n_best`, or `batch_size` is below 1; batches that have
            not begun are dropped.
    """
    batch_size = to_integer("batch_size", batch_size, least=1)
    with ThreadPoolExecutor(engine.concurrency) as pool:
        run = pool.map if engine.concurrency > 1 else map
        for lines in map(to_texts, blocks):
            # Longest first: at the end of a block no thread waits long for another.
            batches = list(batches_by_length(lines, batch_size))[::-1]
            texts = [[lines[i] for i in chosen] for chosen in batches]
            found: dict[int, Translation] = {}
            results = run(lambda batch: engine.translate_n_best(batch, n_best), texts)
            for chosen, batch, translations in zip(batches, texts, results, strict=True):
                found.update(zip(chosen, translations, strict=True))
                on_batch(batch)
            yield [found[i] for i in range(len(lines))]


def batches_by_length(lines: Sequence[str], batch_size: int) -> Iterator[list[int]]:
    """Yields the places of lines of like length, shortest first.

    A batch has `batch_size` lines, or fewer where these, padded to the longest of them, would have
    more than `BATCH_CHARACTERS`; a longer line is a batch of its own.
    """
    chosen: list[int] = []
    for i in sorted(range(len(lines)), key=lambda i: len(lines[i])):
        full = (len(chosen) + 1) * len(lines[i]) > BATCH_CHARACTERS
        if chosen and (full or len(chosen) == batch_size):
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen
