"""Translates with a .tflite."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ktransformer.engines.engine import DOCUMENT, TEXT_SIGNATURES, Engine
from ktransformer.engines.splitting import merge_outputs, split_texts
from ktransformer.errors import InputError, brief
from ktransformer.exporting.lite.companions import target_tokenizer_beside, tokenizer_beside
from ktransformer.exporting.lite.model import LiteModel
from ktransformer.exporting.lite.plan import LEAST, LitePlan
from ktransformer.exporting.pickling import OpenedExport
from ktransformer.tasks.inputs import ArraySpec, to_arrays
from ktransformer.tasks.translator_description import TranslatorDescription
from ktransformer.text.processor_tokenizer import ProcessorTokenizer

if TYPE_CHECKING:
    from ktransformer.text import BaseTokenizer

Outputs = dict[str, np.ndarray]
_TEXTS = {"texts": ArraySpec(1, np.dtype(np.bytes_))}  # The inputs of `serving_default`.
_Run = Callable[..., Outputs]  # `LiteModel.run`, or `run_part` for a part of a shared batch.


class LiteEngine(OpenedExport, Engine):
    """Translates with a .tflite that `export_lite` wrote.

    The graph is the file's; this only calls LiteRT's interpreter. Of a file that takes no text it
    runs `ids`, with the tokenizer that lies beside the file, and without TensorFlow where
    `ProcessorTokenizer` can open that tokenizer.

    A batch runs in parts of like length. Without `threads` and `replicas` the engine chooses its
    interpreters from the model's size and the cores, and these share the parts; see
    docs/decoding.md. No choice changes a translation.

    Attributes:
        plan: The interpreters, as chosen or given; `str` says it in words.

    Args:
        path: The file.
        threads: CPU threads of each interpreter, at least 1; None to choose.
        replicas: Interpreters, at least 1, which `translate_blocks` and `translate_lines` keep
            busy with a batch each; None to choose, or 1 where `threads` is given.
        check: Whether the file is compared with its checksum.

    Raises:
        InputError: It is no .tflite, or a damaged one, or not one of ktransformer's, or the
            tokenizer beside it is another model's; or `threads` or `replicas` is below 1.

    Example:
        ```python
        engine = LiteEngine("model.tflite")
        print(engine.plan)  # 2 interpreters, threads: 1, 1; parts of at most 32 hypotheses; ...
        engine.translate(["Two dogs are running."])
        ```
    """

    kind = "tflite"

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        replicas: int | None = None,
        check: bool = True,
    ) -> None:
        self._model = LiteModel(
            path,
            TranslatorDescription,
            threads=threads,
            replicas=replicas,
            shared=True,
            check=check,
        )
        super().__init__(self._model.description, Path(path))
        self._sharers = self.plan.sharers or self.plan.replicas
        # Further heavy interpreters are for batches that the first alone would be slow at.
        heavy = self.plan.shared_from is not None and self.plan.shared_from > self.plan.most
        self.concurrency = 1 if heavy else self._sharers
        self._pool = ThreadPoolExecutor(self._sharers)  # Starts a thread when it needs one.
        self._tokenizers = self._load_tokenizers()
        self._graph_tokenizer: BaseTokenizer | None = None  # Of the source, for documents.

    @property
    def plan(self) -> LitePlan:
        """The interpreters, their threads, and which batches they share."""
        plan: LitePlan = self._model.plan
        return plan

    def _load_tokenizers(
        self,
    ) -> "tuple[ProcessorTokenizer | BaseTokenizer, ProcessorTokenizer | BaseTokenizer] | None":
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

    def _load(self, path: Path, digest: str) -> "ProcessorTokenizer | BaseTokenizer":
        if not path.is_file():
            raise InputError(f"{path} is missing, a tokenizer of {self.path}.")
        tokenizer = ProcessorTokenizer.open(path.read_bytes()) or _load_graph_tokenizer(path)
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

    def inputs(self, signature: str) -> list[str]:
        return [*_TEXTS] if self._encodes_for(signature) else super().inputs(signature)

    def run_inputs(self, signature: str, **inputs: np.ndarray) -> Outputs:
        if not self._encodes_for(signature):
            return super().run_inputs(signature, **inputs)
        return self._run_ids(to_arrays(signature, _TEXTS, inputs)["texts"])

    def _encodes_for(self, signature: str) -> bool:
        """Tells whether a signature of texts is the file's `ids` and the tokenizer beside it."""
        return self._tokenizers is not None and signature == "serving_default"

    def warmup(self) -> None:
        """Runs every signature of texts once in each replica; see `LiteModel.warmup`."""
        if self._tokenizers is None:
            self._model.warmup((*TEXT_SIGNATURES, DOCUMENT))
        else:
            self._model.warmup(["ids"])
            super().warmup()  # The tokenizer's part.

    def run(self, signature: str, texts: np.ndarray, **others: np.ndarray) -> Outputs:
        if self._encodes_for(signature):
            return self._run_ids(texts)
        if others or signature not in TEXT_SIGNATURES or not _is_list(texts):
            return self._model.run(signature, texts=texts, **others)

        def run_part(run: _Run, places: np.ndarray) -> Outputs:
            return run(signature, texts=texts[places])

        return self._run_parts([len(text) for text in texts], run_part)

    def _run_parts(
        self, lengths: Sequence[int], run_part: Callable[[_Run, np.ndarray], Outputs]
    ) -> Outputs:
        """Runs a batch in parts, at the same time where interpreters share it.

        Args:
            lengths: Of each text, in tokens or bytes.
            run_part: Takes what runs a signature of the file, and the places of a part's texts;
                returns its outputs.
        """
        about, places = self.description, np.arange(len(lengths))
        if about.batch_size is not None:
            parts = np.split(places, range(about.batch_size, len(places), about.batch_size))
            return merge_outputs(parts, [run_part(self._model.run, part) for part in parts])
        # All texts of a batch have one shortlist, so they stay together.
        if about.shortlist is not None or len(lengths) < 2:
            return run_part(self._model.run, places)
        beam_size, plan = about.decoding.beam_size, self.plan
        shared = plan.shared_from is not None and len(lengths) * beam_size >= plan.shared_from
        sharers = self._sharers if shared else 1
        most, least = (max(count // beam_size, 1) for count in (plan.most, LEAST))
        parts = split_texts(lengths, most, least=least, replicas=sharers)
        if sharers > 1 and len(parts) > 1:
            outputs = list(self._pool.map(partial(run_part, self._model.run_part), parts))
        else:
            outputs = [run_part(self._model.run, part) for part in parts]
        return merge_outputs(parts, outputs)

    def find_sentences(
        self, documents: np.ndarray, *, reserved: int = 0, copied: bool = True
    ) -> Outputs:
        """Finds the sentences of documents; see `Engine`."""
        if self._tokenizers is None:
            return super().find_sentences(documents, reserved=reserved, copied=copied)
        from ktransformer.engines.documents import find_with_tokenizer

        tokenizer = self._tokenizers[0]
        if isinstance(tokenizer, ProcessorTokenizer):
            if self._graph_tokenizer is None:
                from ktransformer.text import Tokenizer

                self._graph_tokenizer = Tokenizer(tokenizer.model)
            tokenizer = self._graph_tokenizer
        return find_with_tokenizer(documents, tokenizer, self.description, reserved)

    def translate_ids(self, sources: Sequence[Sequence[int]]) -> list[list[int]]:
        """Translates ids, for a caller with a tokenizer of its own; in parts, as texts.

        Any number of texts goes into a file of a fixed batch size, too. Ids over
        `max_source_length` are cut there and ended, as texts are.

        Args:
            sources: The ids of each text, the end token included; at least one text.

        Returns:
            The ids of each translation, the end token and padding included.

        Raises:
            InputError: There is no signature `ids`, or an id is no whole number, or outside of the
                vocabulary.
        """
        special, limit = self.description.special_ids, self.description.max_source_length
        rows = [_cut(_to_ids(each), limit, special["end"]) for each in sources]

        def run_part(run: _Run, places: np.ndarray) -> Outputs:
            outputs = self._run_rows(run, [rows[place] for place in places], special["pad"])
            found = np.empty(len(places), dtype=object)
            found[:] = outputs["ids"].tolist()
            return {"ids": found}

        translated: list[list[int]] = self._run_parts([*map(len, rows)], run_part)["ids"].tolist()
        return translated

    def _run_rows(self, run: _Run, rows: Sequence[np.ndarray], pad: int) -> Outputs:
        """Runs `ids` on the ids of texts, at most the file's batch size where that is fixed."""
        about = self.description
        size, length = about.batch_size, about.max_source_length
        outputs = run("ids", source=_padded(rows, pad, None if size is None else (size, length)))
        return {name: values[: len(rows)] for name, values in outputs.items()}

    def _run_ids(self, texts: np.ndarray) -> Outputs:
        assert self._tokenizers is not None
        source, target = self._tokenizers
        limit = self.description.max_source_length
        if isinstance(source, ProcessorTokenizer) and _is_list(texts):
            rows, truncated = source.encode_texts(texts.tolist(), limit)
            pad = source.special_ids.pad
        else:
            rows, truncated, pad = _encode_in_graph(source, texts, limit)

        def run_part(run: _Run, places: np.ndarray) -> Outputs:
            outputs = self._run_rows(run, [rows[place] for place in places], pad)
            text = _decode(target, outputs["ids"])
            return {"text": text, "score": outputs["score"], "truncated": truncated[places]}

        return self._run_parts([len(row) for row in rows], run_part)


def _is_list(texts: object) -> bool:
    """Tells whether texts are an array `[B]` of bytes, of at least one."""
    return (
        isinstance(texts, np.ndarray)
        and texts.ndim == 1
        and len(texts) > 0
        and all(isinstance(text, bytes) for text in texts)
    )


def _to_ids(values: Sequence[int]) -> np.ndarray:
    """Returns the ids of a text as int32 `[S]`.

    Raises:
        InputError: They are no flat list of whole numbers that int32 holds.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # Lists of several lengths.
        array = np.empty((0, 0))
    if array.ndim == 1 and array.dtype.kind in "iuf":
        with np.errstate(invalid="ignore"):  # NaN.
            ids = array.astype(np.int32)
        if (ids == array).all():
            return ids
    raise InputError(f"The ids of a text must be a list of whole numbers; got {brief(values)}.")


def _cut(ids: np.ndarray, limit: int, end: int) -> np.ndarray:
    """Cuts ids to `limit` tokens, the last of them being the end token, as the graphs do."""
    return ids if len(ids) <= limit else np.append(ids[: limit - 1], np.int32(end))


def _padded(rows: Sequence[np.ndarray], pad: int, shape: tuple[int, int] | None) -> np.ndarray:
    """Returns ids of a shape; None for `[B, S]`, S being the longest of the rows."""
    ids = np.full(shape or (len(rows), max(map(len, rows), default=1)), pad, np.int32)
    for row, values in zip(ids, rows, strict=False):  # A fixed batch may have more rows.
        row[: len(values)] = values
    return ids


def _decode(tokenizer: "ProcessorTokenizer | BaseTokenizer", ids: np.ndarray) -> np.ndarray:
    """Returns the texts `[B]` of ids `[B, T]`."""
    if isinstance(tokenizer, ProcessorTokenizer):
        texts = np.empty(len(ids), dtype=object)
        texts[:] = tokenizer.decode_rows(ids.tolist())
        return texts
    import tensorflow as tf

    decoded: np.ndarray = tokenizer.decode(tf.constant(ids)).numpy()
    return decoded


def _encode_in_graph(
    tokenizer: "ProcessorTokenizer | BaseTokenizer", texts: np.ndarray, limit: int
) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Returns the ids of each text, which texts were cut, and the padding."""
    import tensorflow as tf

    from ktransformer.tasks.inputs import to_tensor

    tensor = to_tensor("texts", texts, tf.TensorSpec([None], tf.string))
    if isinstance(tokenizer, ProcessorTokenizer):  # It takes no other array or list.
        rows, truncated = tokenizer.encode_texts(tensor.numpy().tolist(), limit)
        return rows, truncated, tokenizer.special_ids.pad
    ids, truncated = (each.numpy() for each in tokenizer.encode_dense(tensor, limit))
    end, pad = tokenizer.special_ids.end, tokenizer.special_ids.pad
    lengths = ids.shape[1] - (ids[:, ::-1] == end).argmax(axis=1)
    return [row[:length] for row, length in zip(ids, lengths, strict=True)], truncated, pad


def _load_graph_tokenizer(path: Path) -> "BaseTokenizer":
    """Opens a tokenizer of any kind, in TensorFlow."""
    from ktransformer.text import load_tokenizer

    return load_tokenizer(path)
