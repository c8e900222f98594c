"""Documents whose sentences are translated as single texts are, with a tag, terms or options."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.engines.translations import TermTranslation, Translation
from ktransformer.errors import InputError
from ktransformer.tasks import TranslatorDescription
from ktransformer.tasks.controls import Controls
from ktransformer.tasks.document_outputs import slices_of
from ktransformer.tasks.documents import (
    MAX_SENTENCES,
    MAX_TOKENS,
    count_pieces,
    least_tokens,
    locate_sentences,
)
from ktransformer.tasks.written_texts import prefix_id
from ktransformer.text import BaseTokenizer

_OF_ONE_TEXT = ("prefix", "n_best", "alternatives", "annotate")
_Translations = Sequence[Translation | TermTranslation]


def to_controls(options: Mapping[str, Any]) -> Controls:
    """Returns the options of a search for the sentences of documents.

    Raises:
        InputError: One is out of its range, or is for a single translation: `prefix`, `n_best`,
            `alternatives`, `annotate`.
        TypeError: There is no such option.
    """
    controls, neutral = Controls(**options), Controls()
    for name in _OF_ONE_TEXT:
        value = getattr(controls, name)
        if value != getattr(neutral, name):
            raise InputError(
                f"{name} does not go with documents, of which each sentence has one translation of "
                f"its own; got {value!r}."
            )
    return controls


def find_with_tokenizer(
    documents: np.ndarray,
    tokenizer: BaseTokenizer,
    description: TranslatorDescription,
    reserved: int,
) -> dict[str, np.ndarray]:
    """Returns what the signature `sentences` would, of a model whose tokenizer is at hand.

    Args:
        documents: Bytes `[B]`.
        tokenizer: That of the source.
        description: The model's; it copies nothing.
        reserved: The tokens that each sentence leaves free.
    """
    language = prefix_id(tokenizer, description.decoding)
    found = locate_sentences(
        tf.constant(documents, tf.string),
        lambda texts: count_pieces(tokenizer, texts, language),
        max_tokens=description.max_source_length - reserved,
        least_tokens=least_tokens(language),
    )
    return {name: each.numpy() for name, each in found.items()}


def translate_in_place(
    documents: np.ndarray,
    found: Mapping[str, np.ndarray],
    translate: Callable[[list[bytes]], _Translations],
) -> dict[str, np.ndarray]:
    """Translates the sentences of documents and puts the translations into their places.

    Args:
        documents: Bytes `[B]`.
        found: Their sentences, as the signature `sentences` returns them.
        translate: Translates a batch of sentences; the batches are those of the signature
            `document`.

    Returns:
        The outputs of `document`; with a terminology also `terms_found` and `terms_written`, int32
        `[M]`.
    """
    sources = slices_of(documents, found, "source")
    translations: dict[int, Translation | TermTranslation] = {}
    for places in _batches(found["tokens"]):
        batch = translate([sources[i] for i in places])
        translations.update(zip(places, batch, strict=True))
    ordered = [translations[i] for i in range(len(sources))]
    outputs = _replace(documents, found, [each.text.encode() for each in ordered])
    outputs["scores"] = np.array([each.scores[0] for each in ordered], np.float32)
    cut = np.array([each.truncated for each in ordered], bool)
    outputs["truncated"] = np.array([part.any() for part in _split(cut, found)], bool)
    with_terms = [each for each in ordered if isinstance(each, TermTranslation)]
    if with_terms:
        outputs["terms_found"] = np.array([each.terms_found for each in with_terms], np.int32)
        outputs["terms_written"] = np.array([each.terms_written for each in with_terms], np.int32)
    return outputs


def _batches(tokens: np.ndarray) -> Iterator[list[int]]:
    """Yields the places of sentences of like length, the longest first."""
    order = np.argsort(-tokens, kind="stable").tolist()
    done = 0
    while done < len(order):
        size = min(max(MAX_TOKENS // int(tokens[order[done]]), 1), MAX_SENTENCES)
        yield order[done : done + size]
        done += size


def _split(values: Any, found: Mapping[str, np.ndarray]) -> list[Any]:
    """Splits values `[M]` by document."""
    splits = found["row_splits"].tolist()
    return [values[start:end] for start, end in itertools.pairwise(splits)]


def _replace(
    documents: np.ndarray, found: Mapping[str, np.ndarray], targets: Sequence[bytes]
) -> dict[str, np.ndarray]:
    """Puts the translations of sentences into their places; returns the text and the places."""
    texts, starts, ends = [], [], []
    columns = (found["source_starts"].tolist(), found["source_ends"].tolist(), targets)
    for document, *rows in zip(documents, *(_split(each, found) for each in columns), strict=True):
        text, done = bytearray(), 0
        for start, end, target in zip(*rows, strict=True):
            text += document[done:start]
            starts.append(len(text))
            text += target
            ends.append(len(text))
            done = end
        texts.append(bytes(text + document[done:]))
    places = {"target_starts": np.array(starts, np.int32), "target_ends": np.array(ends, np.int32)}
    same = {name: values for name, values in found.items() if name != "tokens"}
    return {**same, "text": np.array(texts, dtype=object), **places}
