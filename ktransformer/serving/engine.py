"""What runs a translator, whatever its form: strings of Python in, strings of Python out."""

import abc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.serving.description import TranslatorDescription
from ktransformer.serving.translator import TEXT_SIGNATURES, Translator


class Translation(NamedTuple):
    """What became of one text.

    Attributes:
        texts: Its translations, best first.
        scores: Their scores, log-probability / length ** length_penalty.
        truncated: Whether the source was cut to the longest that the model takes.
    """

    texts: list[str]
    scores: list[float]
    truncated: bool

    @property
    def text(self) -> str:
        """The best translation."""
        return self.texts[0]


class Engine(abc.ABC):
    """Translates texts; the forms of an engine differ in `run` alone.

    Attributes:
        kind: What runs: `run`, `SavedModel` or `tflite`.

    Args:
        description: What is run: lengths, beam size, signatures.
        path: Where it lies; None for a model in this process.
    """

    kind: str

    def __init__(self, description: TranslatorDescription, path: Path | None = None) -> None:
        self.description = description
        self.path = path

    @abc.abstractmethod
    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature of texts, an array `[B]` of bytes, at least one."""

    def warmup(self) -> None:
        """Runs every signature of texts once, so that no user's request is the first."""
        texts = np.array([b"a"] * (self.description.batch_size or 1), dtype=object)
        for name in TEXT_SIGNATURES:
            if name in self.signatures:
                self.run(name, texts)

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Returns the best translation of each text."""
        return [translation.text for translation in self.search(texts)]

    def search(self, texts: Sequence[str], n_best: int = 1) -> list[Translation]:
        """Translates texts at once, or in batches of the size that the export is fixed to.

        Args:
            texts: The texts; none gives none.
            n_best: How many translations of each, at most the beam size.

        Raises:
            InputError: `n_best` is not from 1 to the beam size, or a signature is missing.
            TypeError: `texts` is a single string.
        """
        if isinstance(texts, str):
            raise TypeError("texts must be a list of strings; got one string.")
        signature = self.find_signature(n_best)
        size = self.description.batch_size or max(len(texts), 1)
        translations: list[Translation] = []
        for start in range(0, len(texts), size):
            chosen = texts[start : start + size]
            padding = [""] * (size - len(chosen)) if self.description.batch_size else []
            batch = np.array([text.encode() for text in [*chosen, *padding]], dtype=object)
            translations += _translations(self.run(signature, batch), n_best)[: len(chosen)]
        return translations

    def find_signature(self, n_best: int = 1) -> str:
        """Returns the name of the signature that gives `n_best` translations of texts.

        Raises:
            InputError: There is none, or `n_best` is not from 1 to the beam size.
        """
        beam_size = self.description.decoding.beam_size
        if not 1 <= n_best <= beam_size:
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


def _translations(outputs: dict[str, np.ndarray], n_best: int) -> list[Translation]:
    rows = len(outputs["text"])
    texts = outputs["text"].reshape(rows, -1)[:, :n_best]
    scores = outputs["score"].reshape(rows, -1)[:, :n_best]
    return [
        Translation([text.decode() for text in row], values.tolist(), bool(cut))
        for row, values, cut in zip(texts, scores, outputs["truncated"], strict=True)
    ]


class ModelEngine(Engine):
    """Runs a translator in this process: a run's, or that of a model in training."""

    kind = "run"

    def __init__(self, translator: Translator) -> None:
        super().__init__(translator.describe(("serving_default", "beam")))
        self.translator = translator

    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        function = self.translator.translate if signature != "beam" else self.translator.beam
        return {name: tensor.numpy() for name, tensor in function(tf.constant(texts)).items()}


def translate_lines(
    engine: Engine, lines: Sequence[str], *, batch_size: int = 32, n_best: int = 1
) -> list[Translation]:
    """Translates lines in batches of like length, and gives them back in order.

    Args:
        engine: What translates them.
        lines: The texts.
        batch_size: Texts translated at once.
        n_best: Translations of each; at most the engine's beam size.

    Returns:
        What became of each line.
    """
    translations: dict[int, Translation] = {}
    for chosen in batches_by_length(lines, batch_size):
        batch = engine.search([lines[i] for i in chosen], n_best)
        translations.update(zip(chosen, batch, strict=True))
    return [translations[i] for i in range(len(lines))]


def batches_by_length(lines: Sequence[str], batch_size: int) -> Iterator[list[int]]:
    """Yields the places of lines of like length, `batch_size` at once, shortest first."""
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
