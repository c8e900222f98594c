"""What runs a translator, whatever its form: strings of Python in, strings of Python out."""

import abc
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.serving.description import Description
from ktransformer.serving.translator import Translator


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

    Args:
        description: What is run: lengths, beam size, signatures.
        path: Where it lies; None for a model in this process.
    """

    def __init__(self, description: Description, path: Path | None = None) -> None:
        self.description = description
        self.path = path

    @abc.abstractmethod
    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature of texts, an array `[B]` of bytes, at least one."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Returns the best translation of each text."""
        return [translation.text for translation in self.search(texts)]

    def search(self, texts: Sequence[str], n_best: int = 1) -> list[Translation]:
        """Translates texts at once, as one batch.

        Args:
            texts: The texts; none gives none.
            n_best: How many translations of each, at most the beam size.

        Raises:
            InputError: `n_best` is above the beam size, or a signature is missing.
        """
        signature = "serving_default" if n_best == 1 else "beam"
        self.check(signature, n_best)
        if not texts:
            return []
        outputs = self.run(signature, np.array([text.encode() for text in texts], dtype=object))
        rows = outputs["text"].reshape(len(texts), -1)[:, :n_best]
        scores = outputs["score"].reshape(len(texts), -1)[:, :n_best]
        return [
            Translation([text.decode() for text in row], values.tolist(), bool(cut))
            for row, values, cut in zip(rows, scores, outputs["truncated"], strict=True)
        ]

    def check(self, signature: str, n_best: int = 1) -> None:
        """Raises an `InputError` unless the signature is there and can give `n_best`."""
        beam_size = self.description.decoding.beam_size
        if n_best > beam_size:
            raise InputError(f"n_best must be at most the beam size, {beam_size}; got {n_best}.")
        if signature not in self.description.signatures:
            raise InputError(
                f"This export has no signature {signature}, only "
                f"{', '.join(self.description.signatures)}."
            )


class ModelEngine(Engine):
    """Runs a translator in this process: a run's, or that of a model in training."""

    def __init__(self, translator: Translator) -> None:
        super().__init__(Description.of(translator, signatures=("serving_default", "beam")))
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
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    translations: dict[int, Translation] = {}
    for i in range(0, len(order), batch_size):
        chosen = order[i : i + batch_size]
        batch = engine.search([lines[j] for j in chosen], n_best)
        translations.update(zip(chosen, batch, strict=True))
    return [translations[i] for i in range(len(lines))]
