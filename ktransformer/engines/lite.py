"""Translates with a .tflite."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from ktransformer.engines.documents import find_with_tokenizer
from ktransformer.engines.engine import DOCUMENT, Engine
from ktransformer.errors import InputError
from ktransformer.exporting.lite.export import target_tokenizer_beside, tokenizer_beside
from ktransformer.exporting.lite.model import LiteModel
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.numbers import to_integer
from ktransformer.tasks import TEXT_SIGNATURES, TranslatorDescription
from ktransformer.tasks.inputs import to_tensor
from ktransformer.text import BaseTokenizer, load_tokenizer


class LiteEngine(OpenedExport, Engine):
    """Translates with a .tflite that `export_lite` wrote.

    The graph is the file's; this only calls LiteRT's interpreter, with tensorflow-text's
    operations registered. Of a file that takes no text it runs `ids`, with the
    tokenizer that lies beside the file.

    Args:
        path: The file.
        threads: CPU threads of each interpreter, at least 1.
        replicas: Interpreters, at least 1, which `translate_blocks` and `translate_lines` keep
            busy with a batch each. For many texts, two of one thread are faster than one of two.
        check: Whether the file is compared with its checksum.

    Raises:
        InputError: It is no .tflite, or a damaged one, or not one of ktransformer's, or the
            tokenizer beside it is another model's; or `threads` or `replicas` is below 1.

    Example:
        ```python
        LiteEngine("model.tflite", threads=2).translate(["Two dogs are running."])
        ```
    """

    kind = "tflite"

    def __init__(
        self, path: str | Path, *, threads: int = 1, replicas: int = 1, check: bool = True
    ) -> None:
        self._model = LiteModel(
            path, TranslatorDescription, threads=threads, replicas=replicas, check=check
        )
        super().__init__(self._model.description, Path(path))
        self.concurrency = to_integer("replicas", replicas)
        self._tokenizers = self._load_tokenizers()

    def _load_tokenizers(self) -> tuple[BaseTokenizer, BaseTokenizer] | None:
        """Opens the tokenizers, of the source and the target, of a file that takes ids alone."""
        names = self.description.signatures
        beside = tokenizer_beside(self.path or "")
        if set(TEXT_SIGNATURES) & set(names) or "ids" not in names or not beside.is_file():
            return None
        source = self._load(beside, self.description.tokenizer_sha256)
        digest = self.description.target_tokenizer_sha256
        if digest is None:
            return source, source
        return source, self._load(target_tokenizer_beside(self.path or ""), digest)

    def _load(self, path: Path, digest: str) -> BaseTokenizer:
        if not path.is_file():
            raise InputError(f"{path} is missing, a tokenizer of {self.path}.")
        tokenizer = load_tokenizer(path)
        if tokenizer.sha256 != digest:
            raise InputError(f"{path} is not the tokenizer of {self.path}.")
        return tokenizer

    def find_signature(self, n_best: int = 1) -> str:
        """Returns the name of the signature that gives `n_best` translations; see `Engine`."""
        if set(self.signatures).isdisjoint(TEXT_SIGNATURES) and "ids" in self.signatures:
            raise InputError(
                f"{self.path} takes ids; to translate text, the tokenizer that they belong to has "
                f"to lie beside it: {tokenizer_beside(self.path or '')}."
            )
        return super().find_signature(n_best)

    @property
    def signatures(self) -> tuple[str, ...]:
        names = self.description.signatures
        return names if self._tokenizers is None else (*names, "serving_default")

    def warmup(self) -> None:
        """Runs every signature of texts once in each replica; see `LiteModel.warmup`."""
        if self._tokenizers is None:
            self._model.warmup((*TEXT_SIGNATURES, DOCUMENT))
        else:
            self._model.warmup(["ids"])
            super().warmup()  # The tokenizer's part.

    def run(self, signature: str, texts: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        if self._tokenizers is not None and signature == "serving_default":
            return self._run_ids(*self._tokenizers, texts)
        return self._model.run(signature, texts=texts, **others)

    def find_sentences(
        self, documents: np.ndarray, *, reserved: int = 0, copied: bool = True
    ) -> dict[str, np.ndarray]:
        """Finds the sentences of documents; see `Engine`."""
        if self._tokenizers is None:
            return super().find_sentences(documents, reserved=reserved, copied=copied)
        return find_with_tokenizer(documents, self._tokenizers[0], self.description, reserved)

    def _run_ids(
        self, tokenizer: BaseTokenizer, target_tokenizer: BaseTokenizer, texts: np.ndarray
    ) -> dict[str, np.ndarray]:
        limit = self.description.max_source_length
        texts = to_tensor("texts", texts, tf.TensorSpec([None], tf.string))
        ids, truncated = tokenizer.encode_dense(texts, limit)
        if self.description.batch_size is not None:
            missing = [[0, 0], [0, limit - ids.shape[1]]]
            ids = tf.pad(ids, missing, constant_values=tokenizer.special_ids.pad)
        outputs = self._model.run("ids", source=ids.numpy())
        text = target_tokenizer.decode(tf.constant(outputs["ids"])).numpy()
        return {"text": text, "score": outputs["score"], "truncated": truncated.numpy()}
