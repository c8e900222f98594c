"""What a model would choose next: it shows whether another choice than the best is as good."""

import dataclasses

import numpy as np
import tensorflow as tf

from ktransformer.tasks import TEXT_SIGNATURES, ImageClassifier, MaskFiller, Servable, Translator
from ktransformer.text import END_ID


def search_wider(
    servable: Servable, signature: str, inputs: dict[str, tf.Tensor]
) -> dict[str, np.ndarray]:
    """Runs a signature so that it gives more choices than the signature itself does.

    Args:
        servable: The model.
        signature: The name of one of its signatures that choose.
        inputs: What it takes.

    Returns:
        The signature's choices and how good each is, `[B, N, ...]`; nothing where no more can be
        had.
    """
    outputs: dict[str, tf.Tensor] = {}
    (values,) = inputs.values()
    if isinstance(servable, Translator):
        decoding = servable.decoding
        wider = dataclasses.replace(decoding, beam_size=_more(decoding.beam_size))
        other = type(servable)(servable.model, servable.tokenizer, wider, servable.shortlist)
        if signature in TEXT_SIGNATURES:
            outputs = other.beam(values)
        else:
            best = other.search(values, n_best=wider.beam_size)
            outputs = {"ids": best.ids, "score": best.scores}
    elif isinstance(servable, MaskFiller):
        top_k = min(_more(servable.top_k), servable.mask_id - END_ID - 1)
        outputs = type(servable)(servable.model, servable.tokenizer, top_k).fill_texts(values)
    elif isinstance(servable, ImageClassifier):
        units = values if signature == "unit_pixels" else tf.cast(values, tf.float32) / 255
        found = servable.classify_unit_pixels(units)["probabilities"]  # [B, N]
        classes = tf.broadcast_to(tf.range(len(servable.classes)), tf.shape(found))
        outputs = {"class": classes, "probability": found}
    return {name: np.asarray(value) for name, value in outputs.items()}


def _more(count: int) -> int:
    return 2 * count + 2
