"""Runs a .tflite from text to text."""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from ktransformer.errors import InputError
from ktransformer.lite.export import tokenizer_beside
from ktransformer.lite.model_file import read_metadata
from ktransformer.serving import TEXT_SIGNATURES, Engine, TranslatorDescription
from ktransformer.text import PAD_ID, Tokenizer


class LiteTranslator(Engine):
    """Translates with a .tflite that `export_lite` wrote.

    The graph is the file's; this only calls LiteRT's interpreter, with tensorflow-text's
    operations registered. Of a file that takes no text it runs `ids`, with the SentencePiece
    model that lies beside the file.

    Args:
        path: The file.
        threads: CPU threads of the interpreter, at least 1.

    Raises:
        InputError: It is no .tflite, or a damaged one, or not one of ktransformer's, or what lies
            beside it is another model's tokenizer.
        ValueError: `threads` is below 1.

    Example:
        ```python
        LiteTranslator("model.tflite", threads=2).translate(["Two dogs are running."])
        ```
    """

    kind = "tflite"

    def __init__(self, path: str | Path, *, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1; got threads={threads}.")
        super().__init__(TranslatorDescription.from_json(read_metadata(path), path), Path(path))
        try:
            self._interpreter = InterpreterWithCustomOps(
                model_path=str(path),
                custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
                num_threads=threads,
            )
            self._runners = {
                name: self._interpreter.get_signature_runner(name)
                for name in self.description.signatures
            }
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} is a .tflite file, but a damaged one.") from error
        self._tokenizer = self._load_tokenizer()

    def _load_tokenizer(self) -> Tokenizer | None:
        """Opens the tokenizer of a file that takes ids alone."""
        names = self.description.signatures
        beside = tokenizer_beside(self.path or "")
        if set(TEXT_SIGNATURES) & set(names) or "ids" not in names or not beside.is_file():
            return None
        tokenizer = Tokenizer.load(beside)
        if tokenizer.sha256 != self.description.tokenizer_sha256:
            raise InputError(f"{beside} is not the tokenizer of {self.path}.")
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
        return names if self._tokenizer is None else (*names, "serving_default")

    def run(self, signature: str, texts: np.ndarray) -> dict[str, np.ndarray]:
        if self._tokenizer is not None:
            return self._run_ids(self._tokenizer, texts)
        return self._invoke(signature, texts=texts)

    def _run_ids(self, tokenizer: Tokenizer, texts: np.ndarray) -> dict[str, np.ndarray]:
        limit = self.description.max_source_length
        ids, truncated = tokenizer.encode_dense(tf.constant(texts, tf.string), limit)
        if self.description.batch_size is not None:
            ids = tf.pad(ids, [[0, 0], [0, limit - ids.shape[1]]], constant_values=PAD_ID)
        outputs = self._invoke("ids", source=ids.numpy())
        text = tokenizer.decode(tf.constant(outputs["ids"])).numpy()
        return {"text": text, "score": outputs["score"], "truncated": truncated.numpy()}

    def _invoke(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        try:
            outputs: dict[str, np.ndarray] = self._runners[signature](**inputs)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"LiteRT cannot run {self.path}: {reason}") from error
        return outputs
