"""The common part of a translator's folder in the format of another library, opened."""

import abc
from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.files.checksums import check_files, is_sealed, read_json
from ktransformer.tasks import TEXT_SIGNATURES, TranslatorDescription
from ktransformer.tasks.inputs import to_tensors
from ktransformer.tasks.written_texts import prefix_id
from ktransformer.text import BaseTokenizer, load_tokenizer

DESCRIPTION = "ktransformer.json"
TOKENIZER, TARGET_TOKENIZER = "tokenizer.model", "target_tokenizer.model"


class ConvertedModel(OpenedExport, abc.ABC):
    """A folder with a description, tokenizers and the model as another library runs it.

    Attributes:
        kind: The name of its form.
        WEIGHTS: The files of the model.
        path: The folder.
        description: Its description.

    Args:
        path: The folder.
        check: Whether the files are compared with their checksums.

    Raises:
        InputError: There is no such folder, or it is damaged or not one of ktransformer's.
    """

    kind: ClassVar[str]
    WEIGHTS: ClassVar[tuple[str, ...]]

    def __init__(self, path: str | Path, *, check: bool) -> None:
        self.path = Path(path)
        if not (self.path / DESCRIPTION).is_file():
            raise InputError(f"{self.path} is not a {self.kind} folder that ktransformer wrote.")
        content, _ = read_json(self.path / DESCRIPTION)
        self.description = TranslatorDescription.from_json(content, self.path)
        if check:
            if not is_sealed(content):
                raise InputError(f"{self.path / DESCRIPTION} is damaged: its checksum is another.")
            check_files(self.path, self.description.files, (*self.WEIGHTS, TOKENIZER))
        self._source: BaseTokenizer = load_tokenizer(self.path / TOKENIZER)
        self._target = self._source
        if self.description.target_tokenizer_sha256 is not None:
            self._target = load_tokenizer(self.path / TARGET_TOKENIZER)
        self._language = prefix_id(self._source, self.description.decoding)

    @property
    def tokenizer(self) -> BaseTokenizer:
        """The tokenizer of the source."""
        return self._source

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
        found, scores = self.search(ids.numpy(), n_best)
        outputs = {"text": self._target.decode(found).numpy().reshape(scores.shape)}
        outputs["score"] = scores
        if not is_beam:
            outputs = {name: values[:, 0] for name, values in outputs.items()}
        return {**outputs, "truncated": truncated.numpy()}

    @abc.abstractmethod
    def search(
        self, source: np.ndarray, n_best: int
    ) -> tuple[tf.Tensor | tf.RaggedTensor, np.ndarray]:
        """Searches for source ids `[B, S]`.

        Returns:
            The target ids of B * `n_best` hypotheses, dense with padding or ragged, and their
            scores `[B, n_best]`. A source without any token has empty ones of score 0.
        """

    def warmup(self) -> None:
        """Runs each signature once, so that no user's run is the first."""
        for name in TEXT_SIGNATURES:
            self.run(name, texts=np.array([b"a"], dtype=object))
