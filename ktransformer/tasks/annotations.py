"""Annotations of translations: the score, the alignment and the text of each token."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ktransformer.config import DecodingConfig
from ktransformer.config.alignment_heads import AlignmentHeads
from ktransformer.errors import InputError
from ktransformer.losses import alignment_weights, smoothed_cross_entropy
from ktransformer.models import Transformer
from ktransformer.tasks.written_texts import start_labels
from ktransformer.text import BaseTokenizer

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator


def alignment_heads(model: Transformer, decoding: DecodingConfig) -> AlignmentHeads:
    """Returns the heads that a translator's settings name.

    Raises:
        InputError: `alignment_layer` or `alignment_heads` is more than the model has.
    """
    settings = {name: getattr(decoding, name) for name in ("alignment_layer", "alignment_heads")}
    return AlignmentHeads.choose(
        settings,
        num_layers=model.num_decoder_layers,
        num_heads=model.num_heads,
        shifted=decoding.alignment_shift,
    )


def annotate(translator: "Translator", source: tf.Tensor, target: tf.Tensor) -> dict[str, Any]:
    """Scores and aligns target ids, with one pass over the whole target; runs in a graph.

    Neither depends on any later token.

    Args:
        translator: The translator; a shortlist of it is not used.
        source: Int32 `[B, S]`, ended and padded.
        target: Int32 `[B, T]`, likewise.

    Returns:
        `tokens`, string `[B, T]`, and `source_tokens`, string `[B, S]`, the pieces of the
        vocabulary; `log_probability`, float32 `[B, T]`, of each token after those before it;
        `weights`, float32 `[B, T, S]`, the attention of the `alignment_heads` (see
        `losses.alignment_weights`); `alignment`, int32 `[B, T]`, the source token of the greatest
        weight. Padding has empty pieces and zeros.

    Raises:
        InputError: A subclass of the model overrides `call` and not the method that returns its
            attention weights.
    """
    model, special = translator.model, translator.target_tokenizer.special_ids
    heads = alignment_heads(model, translator.decoding)
    inputs = {"source": source, "target": start_labels(target, special.start)}
    try:
        logits, attention = model.logits_and_attention(inputs, heads.layer)
    except NotImplementedError as error:
        raise InputError(str(error)) from error
    real = tf.cast(target != special.pad, tf.float32)  # [B, T]
    weights = alignment_weights(attention, heads.heads, shifted=heads.shifted)
    weights *= tf.expand_dims(real, 2)
    return {
        "tokens": _pieces(translator.target_tokenizer, target, model.vocabulary_size),
        "source_tokens": _pieces(
            translator.tokenizer, source, model.source_vocabulary_size or model.vocabulary_size
        ),
        "log_probability": -smoothed_cross_entropy(target, logits) * real,
        "weights": weights,
        "alignment": tf.argmax(weights, axis=2, output_type=tf.int32),
    }


def _pieces(tokenizer: BaseTokenizer, ids: tf.Tensor, size: int) -> tf.Tensor:
    """Returns the piece of each id, `[B, T]`; an empty text for padding."""
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    table = [*pieces, *[""] * (size - len(pieces))]  # A model may have more ids than pieces.
    table[tokenizer.special_ids.pad] = ""
    flat = tf.gather(tf.constant(table), tf.reshape(ids, [-1]))
    return tf.reshape(flat, tf.shape(ids))
