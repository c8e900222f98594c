"""A CTranslate2 folder that is opened and runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.conversion.ctranslate2.library import import_ctranslate2
from ktransformer.decoding import IMPOSSIBLE, length_limits
from ktransformer.errors import InputError, first_line
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.files.checksums import check_files, is_sealed, read_json
from ktransformer.numbers import to_integer
from ktransformer.tasks import TranslatorDescription
from ktransformer.tasks.inputs import to_tensors
from ktransformer.tasks.translator import TEXT_SIGNATURES
from ktransformer.text import Tokenizer

DESCRIPTION, WEIGHTS = "ktransformer.json", "model.bin"
TOKENIZER, TARGET_TOKENIZER = "tokenizer.model", "target_tokenizer.model"
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


class CTranslate2Model(OpenedExport):
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

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        replicas: int = 1,
        check: bool = True,
    ) -> None:
        self.path = Path(path)
        threads = to_integer("threads", threads, least=1)
        replicas = to_integer("replicas", replicas, least=1)
        if not (self.path / DESCRIPTION).is_file():
            raise InputError(f"{self.path} is not a CTranslate2 folder that ktransformer wrote.")
        content, _ = read_json(self.path / DESCRIPTION)
        self.description = TranslatorDescription.from_json(content, self.path)
        if check:
            if not is_sealed(content):
                raise InputError(f"{self.path / DESCRIPTION} is damaged: its checksum is another.")
            check_files(self.path, self.description.files, (WEIGHTS, TOKENIZER))
        self._source = Tokenizer.load(self.path / TOKENIZER)
        self._target = self._source
        if self.description.target_tokenizer_sha256 is not None:
            self._target = Tokenizer.load(self.path / TARGET_TOKENIZER)
        language = self.description.decoding.target_language
        self._language = None if language is None else self._source.language_id(language)
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

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's inputs."""
        self._check_signature(signature)
        return ["texts"]

    def _check_signature(self, name: str) -> None:
        if name not in self.description.signatures:
            known = ", ".join(self.description.signatures)
            raise InputError(f"{self.path} has no signature {name!r}, only {known}.")

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature; several threads may call it at a time.

        Raises:
            InputError: There is no such signature, or it takes other inputs.
        """
        self._check_signature(signature)
        specs = {"texts": tf.TensorSpec([None], tf.string, "texts")}
        texts = to_tensors(signature, specs, inputs)["texts"]
        is_beam = signature == "beam"
        n_best = self.description.decoding.beam_size if is_beam else 1
        limit = self.description.max_source_length
        ids, truncated = self._source.encode_dense(texts, limit, language=self._language)
        found, scores = self._search(ids.numpy(), n_best)
        ragged = tf.ragged.constant(found, ragged_rank=1, dtype=tf.int32, row_splits_dtype=tf.int32)
        written = self._target.decode(ragged).numpy().reshape(scores.shape)
        outputs = {"text": written, "score": scores}
        if not is_beam:
            outputs = {name: values[:, 0] for name, values in outputs.items()}
        return {**outputs, "truncated": truncated.numpy()}

    def _search(self, ids: np.ndarray, n_best: int) -> tuple[list[list[int]], np.ndarray]:
        """Searches for source ids `[B, S]`.

        Returns:
            The target ids of B * `n_best` hypotheses, and their scores `[B, n_best]`. A source
            without any token has empty ones of score 0.
        """
        lengths = (ids != self._source.special_ids.pad).sum(axis=1)
        rows = np.flatnonzero(lengths > (1 if self._language is None else 2)).tolist()
        found: list[list[int]] = [[] for _ in range(len(ids) * n_best)]
        scores = np.zeros((len(ids), n_best), np.float32)
        scores[rows] = IMPOSSIBLE
        # CTranslate2 adds the end token of the source.
        sources = [[self._source_pieces[i] for i in ids[row, : lengths[row] - 1]] for row in rows]
        hypotheses = self._translate(sources, n_best) if sources else []
        places, texts = [], []
        for row, source, targets in zip(rows, sources, hypotheses, strict=True):
            for i, target in enumerate(targets, start=row * n_best):
                found[i] = [self._target_ids[piece] for piece in target]
                places.append(i)
                texts.append((source, target))
        scores.reshape(-1)[places] = self._score(texts)
        return found, scores

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

    def warmup(self) -> None:
        """Runs each signature once, so that no user's run is the first."""
        for name in TEXT_SIGNATURES:
            self.run(name, texts=np.array([b"a"], dtype=object))


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
