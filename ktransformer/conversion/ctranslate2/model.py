"""A CTranslate2 folder that is opened and runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.conversion.converted_model import ConvertedModel
from ktransformer.conversion.ctranslate2.library import import_ctranslate2
from ktransformer.decoding import IMPOSSIBLE, length_limits
from ktransformer.errors import InputError, first_line
from ktransformer.numbers import to_integer

WEIGHTS = "model.bin"
QUANTIZATIONS = {
    "none": "float32",
    "float16": "float32",
    "int16": "int16",
    "int8": "int8",
    "int8_float16": "int8_float32",
}
"""How weights may be stored, each with the type that it is computed in: float16 fits GPUs alone."""


def is_ctranslate2(path: str | Path) -> bool:
    """Tells whether a path looks like a CTranslate2 folder."""
    return (Path(path) / WEIGHTS).is_file()


class CTranslate2Model(ConvertedModel):
    """A CTranslate2 folder that `export_ctranslate2` wrote, opened.

    The search is CTranslate2's, with the settings that the translator had: it, too, ends when as
    many hypotheses have finished as the beam has places. All texts of a batch have the length limit
    of the longest.

    Attributes:
        kind: Its form, `CTranslate2`.
        path: The folder.
        description: Its description.

    Args:
        path: The folder.
        threads: CPU threads of a batch, at least 1.
        replicas: Batches that run at the same time, at least 1; they share the weights.
        check: Whether the files are compared with their checksums.

    Raises:
        InputError: There is no such folder, or it is damaged or not one of ktransformer's, or the
            package ctranslate2 is not installed; or `threads` or `replicas` is below 1.
    """

    kind = "CTranslate2"
    WEIGHTS = (WEIGHTS,)

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        replicas: int = 1,
        check: bool = True,
    ) -> None:
        threads = to_integer("threads", threads, least=1)
        replicas = to_integer("replicas", replicas, least=1)
        super().__init__(path, check=check)
        source_size = self.description.source_vocabulary_size or self.description.vocabulary_size
        self._source_pieces = self._source.pieces(range(source_size))
        pieces = self._target.pieces(range(self.description.vocabulary_size))
        self._target_ids = {piece: i for i, piece in enumerate(pieces)}
        special = self._target.special_ids
        suppressed = (special.pad, special.start, *self._target.unwritten_ids)
        self._suppressed = [[pieces[i]] for i in suppressed]
        self._translator = open_translator(
            self.path, self.description.quantization, threads=threads, replicas=replicas
        )

    def search(self, source: np.ndarray, n_best: int) -> tuple[tf.RaggedTensor, np.ndarray]:
        lengths = (source != self._source.special_ids.pad).sum(axis=1)
        rows = np.flatnonzero(lengths > (1 if self._language is None else 2)).tolist()
        found: list[list[int]] = [[] for _ in range(len(source) * n_best)]
        scores = np.zeros((len(source), n_best), np.float32)
        scores[rows] = IMPOSSIBLE
        # CTranslate2 adds the end token of the source.
        sources = [
            [self._source_pieces[i] for i in source[row, : lengths[row] - 1]] for row in rows
        ]
        hypotheses = self._translate(sources, n_best) if sources else []
        places, texts = [], []
        for row, pieces, targets in zip(rows, sources, hypotheses, strict=True):
            for i, target in enumerate(targets, start=row * n_best):
                found[i] = [self._target_ids[piece] for piece in target]
                places.append(i)
                texts.append((pieces, target))
        scores.reshape(-1)[places] = self._score(texts)
        ragged = tf.ragged.constant(found, ragged_rank=1, dtype=tf.int32, row_splits_dtype=tf.int32)
        return ragged, scores

    def _translate(self, sources: Sequence[list[str]], n_best: int) -> list[list[list[str]]]:
        """Returns the pieces of the hypotheses of each source, best first, without the end."""
        about, decoding = self.description, self.description.decoding
        limits = length_limits(
            tf.constant([max(map(len, sources)) + 1]),
            ratio=decoding.max_length_ratio,
            offset=decoding.max_length_offset,
            maximum=about.max_target_length,
        )
        results = self._translator.translate_batch(
            sources,
            beam_size=decoding.beam_size,
            num_hypotheses=n_best,
            length_penalty=decoding.length_penalty,
            max_input_length=0,
            max_decoding_length=max(int(limits[0]) - 1, 1),  # The end token comes after these.
            min_decoding_length=0,  # By default 1, which forbids an empty translation.
            repetition_penalty=decoding.repetition_penalty,
            disable_unk=decoding.suppress_unknown,
            suppress_sequences=self._suppressed,
        )
        return [result.hypotheses for result in results]

    def _score(self, texts: Sequence[tuple[list[str], list[str]]]) -> list[float]:
        """Scores pairs of pieces.

        Those of the search are not the model's: it gives the probability of the suppressed tokens
        to the others.
        """
        if not texts:
            return []
        results = self._translator.score_batch(*zip(*texts, strict=True), max_input_length=0)
        penalty = self.description.decoding.length_penalty
        return [sum(each.log_probs) / len(each.log_probs) ** penalty for each in results]


def open_translator(path: Path, quantization: str, *, threads: int = 1, replicas: int = 1) -> Any:
    """Opens a folder with CTranslate2's own `Translator`, on the CPU.

    Args:
        path: The folder.
        quantization: How its weights are stored; one of `QUANTIZATIONS`.
        threads: CPU threads of a batch.
        replicas: Batches at a time.

    Raises:
        InputError: The package is not installed, or the folder is damaged.
    """
    library = import_ctranslate2()
    try:
        return library.Translator(
            str(path),
            device="cpu",
            compute_type=QUANTIZATIONS[quantization],
            intra_threads=threads,
            inter_threads=replicas,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(f"CTranslate2 cannot open {path}: {first_line(error)}.") from error
