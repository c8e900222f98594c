"""How `verify` compares the exports of a translator: what it gives them, and wider searches."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ktransformer.tasks.controls import STEERED, Controls
from ktransformer.tasks.document_outputs import (
    by_document,
    encode_documents,
    places_by_document,
    sentences_inputs,
    slices_of,
)
from ktransformer.tasks.inputs import cut_texts
from ktransformer.tasks.task import SignatureCheck
from ktransformer.tasks.terms import example_terms

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator


def adapt_checks(
    translator: "Translator", checks: Sequence[SignatureCheck]
) -> list[SignatureCheck]:
    """Adapts the checks of any task that searches to the signatures of a translator.

    `document` and `sentences` compare whole documents; `annotate` the weights, not their maxima;
    `controlled` is run once more, with options.
    """

    def steer(examples: Sequence[str]) -> dict[str, np.ndarray]:
        return STEERED.to_inputs(cut_texts(examples, translator.max_source_length))

    own: dict[str, dict[str, Any]] = {
        "document": {"regroup": by_document},
        "sentences": {"regroup": places_by_document, "best_texts": None},
        "annotate": {"function": functools.partial(_annotate_without_choices, translator)},
    }
    steered = [check._replace(prepare=steer) for check in checks if check.signature == "controlled"]
    return [*(check._replace(**own.get(check.signature, {})) for check in checks), *steered]


def _annotate_without_choices(translator: "Translator", **texts: tf.Tensor) -> dict[str, tf.Tensor]:
    outputs = translator.annotate(**texts)
    return {name: each for name, each in outputs.items() if name != "alignment"}


def example_inputs(
    translator: "Translator", signature: str, examples: Sequence[str], batch_size: int | None
) -> dict[str, np.ndarray]:
    """Returns the inputs of one of a translator's signatures; see `SearchTask.example_inputs`."""
    if signature in ("document", "sentences"):
        documents = encode_documents(examples)
        return {"texts": documents} if signature == "document" else sentences_inputs(documents)
    texts = cut_texts(examples, translator.max_source_length)
    if signature == "controlled":
        return Controls().to_inputs(texts)
    if signature == "terms":
        return example_terms(translator, texts)
    if signature in ("score", "annotate"):
        return {"source": texts, "target": texts}
    if signature != "ids":
        return {"texts": texts}
    source = translator.to_ids(texts).numpy()
    missing = translator.max_source_length - source.shape[1] if batch_size else 0
    padding = [(0, 0), (0, missing)]
    return {"source": np.pad(source, padding, constant_values=translator.model.pad_id)}


def search_wider(
    translator: "Translator", signature: str, inputs: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor] | None:
    """Searches for the inputs of a signature with a wider beam.

    Returns:
        `text` or `ids`, and `score`; None if a translator does it as any task that searches.
    """
    if signature == "document":
        found = translator.translate_document(inputs["texts"])
        sentences = slices_of(inputs["texts"].numpy(), found, "source")
        return translator.with_wider_beam().beam(tf.constant(sentences))
    if signature == "controlled":
        wider = translator.with_wider_beam()
        more = {"n_best": tf.constant(wider.decoding.beam_size)}
        return wider.controlled(**{**inputs, **more})
    if signature == "ids":
        wider = translator.with_wider_beam()
        best = wider.search(inputs["source"], n_best=wider.decoding.beam_size)
        return {"ids": best.ids, "score": best.scores}
    return None
