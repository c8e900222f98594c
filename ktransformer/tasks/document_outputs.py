"""Documents and the outputs of `translate_documents` as arrays: cut, regrouped, streamed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def encode_documents(texts: Sequence[str | bytes]) -> np.ndarray:
    """Returns documents as an array `[B]` of bytes, which need not be UTF-8."""
    return np.array(
        [text.encode() if isinstance(text, str) else text for text in texts], dtype=object
    )


def sentences_inputs(
    documents: np.ndarray, *, reserved: int = 0, copied: bool = True
) -> dict[str, np.ndarray]:
    """Returns the inputs of the signature `sentences`; see `Translator.find_sentences`."""
    numbers = {"reserved": reserved, "copied": copied}
    return {
        "texts": documents,
        **{name: np.array(each, np.int32) for name, each in numbers.items()},
    }


def slices_of(documents: np.ndarray, outputs: Any, side: str) -> list[bytes]:
    """Returns the sentences `[M]` of documents `[B]`.

    Args:
        documents: The bytes of the source, or of `outputs["text"]`.
        outputs: The outputs of `translate_documents`, tensors or arrays.
        side: `source` or `target`.
    """
    starts, ends = (np.asarray(outputs[f"{side}_{end}"]) for end in ("starts", "ends"))
    counts = np.diff(np.asarray(outputs["row_splits"]))
    rows = np.repeat(np.arange(len(documents)), counts)
    return [documents[row][start:end] for row, start, end in zip(rows, starts, ends, strict=True)]


def by_sentence(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns outputs of `translate_documents` with `text` and `score` `[M]` of the sentences."""
    same = ("truncated", "source_starts", "source_ends", "broken", "row_splits")
    return {
        "text": np.array(slices_of(outputs["text"], outputs, "target"), dtype=object),
        "score": outputs["scores"],
        "kept": _kept(outputs),
        **{name: outputs[name] for name in same},
    }


def by_document(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns outputs of `translate_documents` as `[B]` each; `score` is the sum of a document's.

    The offsets of a document are one string of bytes.
    """
    scores = np.split(outputs["scores"], outputs["row_splits"][1:-1])
    same = ("source_starts", "source_ends", "broken", "row_splits")
    return {
        "text": outputs["text"],
        "score": np.array([part.sum() for part in scores], np.float32),
        "kept": _kept(outputs),
        "truncated": outputs["truncated"],
        **places_by_document({name: outputs[name] for name in same}),
    }


def places_by_document(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns outputs of `locate_sentences` as `[B]` each: one string of bytes a document."""
    places = outputs["row_splits"][1:-1]
    return {
        name: np.array([part.tobytes() for part in np.split(values, places)], dtype=object)
        for name, values in outputs.items()
        if name != "row_splits"
    }


def _kept(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the bytes `[B]` of each translation that are of no sentence."""
    splits, starts, ends = (
        outputs[name] for name in ("row_splits", "target_starts", "target_ends")
    )
    kept = []
    for row, text in enumerate(outputs["text"]):
        chosen = slice(splits[row], splits[row + 1])
        places = zip([0, *ends[chosen]], [*starts[chosen], len(text)], strict=True)
        kept.append(b"".join(text[start:end] for start, end in places))
    return np.array(kept, dtype=object)


def split_lines(text: bytes, size: int) -> Iterator[bytes]:
    """Yields a text in pieces of whole lines.

    Translated one by one, they give the translation of the text: no sentence extends over a line
    break.

    Args:
        text: The text.
        size: The most bytes of a piece; a longer line is a piece of its own.
    """
    start = 0
    while start < len(text):
        end = text.rfind(b"\n", start, start + size) + 1 or text.find(b"\n", start + size) + 1
        yield text[start : end or len(text)]
        start = end or len(text)
