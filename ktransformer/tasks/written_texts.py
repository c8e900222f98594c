"""Ids and texts in graphs: padded ids, searches, and the texts and scores that they give."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer import decoding
from ktransformer.config import DecodingConfig, SearchConfig
from ktransformer.decoding import Hypotheses, Rule, SearchModel, beam_search, greedy_search
from ktransformer.errors import InputError
from ktransformer.losses import smoothed_cross_entropy, token_weights
from ktransformer.text import BaseTokenizer, SpecialIds


def lengths_of(ids: tf.Tensor, pad_id: int) -> tf.Tensor:
    """Counts the tokens of padded ids: `[B, S] -> [B]`."""
    return tf.reduce_sum(tf.cast(ids != pad_id, tf.int32), axis=1)


def cut_ids(ids: tf.Tensor, limit: int, special: SpecialIds) -> tf.Tensor:
    """Cuts ids `[B, S]` to `limit` tokens, the last of them being the end token."""
    last = tf.where(ids[:, limit - 1 : limit] == special.pad, special.pad, special.end)
    return tf.concat([ids[:, : limit - 1], last], axis=1)


def has_no_token(source: tf.Tensor, pad_id: int, language: int | None = None) -> tf.Tensor:
    """Tells which sources have at most one token beside that of a tag or language, the end's.

    Args:
        source: Int32 `[B, S]`.
        pad_id: Pads the sources.
        language: The token of a tag or language that a source may begin with; None for none.

    Returns:
        Boolean `[B]`.
    """
    lengths = lengths_of(source, pad_id)
    if language is not None:
        first = tf.cast(source[:, :1] == language, tf.int32)  # [B, 0] of ids of no length.
        lengths -= tf.reduce_sum(first, axis=1)
    return lengths <= 1


def end_empty(
    source: tf.Tensor, best: Hypotheses, special: SpecialIds, language: int | None = None
) -> Hypotheses:
    """Replaces the hypotheses of sources without a token by the target's end token alone.

    Args:
        source: Int32 `[B, S]`.
        best: The hypotheses.
        special: The special ids.
        language: The language token that a source may begin with; None for none.
    """
    empty = tf.expand_dims(has_no_token(source, special.pad, language), 1)  # [B, 1]
    at_start = tf.range(tf.shape(best.ids)[2]) == 0  # [T]
    nothing = tf.where(at_start, special.end, special.pad)  # [T]
    return Hypotheses(
        ids=tf.where(tf.expand_dims(empty, 2), nothing, best.ids),
        scores=tf.where(empty, 0.0, best.scores),
        lengths=tf.where(empty, 1, best.lengths),
        log_probabilities=tf.where(empty, 0.0, best.log_probabilities),
    )


def fix_width(ids: tf.Tensor, shape: Sequence[Any], pad_id: int) -> tf.Tensor:
    """Pads ids `[..., T]` to a fixed shape with a last axis of at least T."""
    padded = tf.concat([ids, tf.fill(shape, pad_id)], axis=-1)
    return tf.slice(padded, [0] * len(shape), shape)


def spread_ids(tokenizer: BaseTokenizer, count: int) -> np.ndarray:
    """Returns ordinary ids from all over the vocabulary, ascending: int32 `[count]`."""
    ordinary = tokenizer.ordinary_ids
    return ordinary[np.linspace(0, len(ordinary) - 1, count).astype(np.int32)]


def probe_ids(tokenizer: BaseTokenizer, lengths: Sequence[int], width: int) -> tf.Tensor:
    """Makes ids `[B, width]` to try a graph on, ended and padded.

    Args:
        tokenizer: Their tokenizer.
        lengths: The tokens of each row without the end token, fewer than `width`.
        width: The number of columns.
    """
    special, pieces = tokenizer.special_ids, spread_ids(tokenizer, max(lengths))
    ids = np.full((len(lengths), width), special.pad, np.int32)
    for row, length in zip(ids, lengths, strict=True):
        row[:length], row[length] = pieces[:length], special.end
    return tf.constant(ids)


def prefix_id(tokenizer: BaseTokenizer, config: DecodingConfig) -> int | None:
    """Returns the id that is put before every source, of a tag or a language; None for none.

    Raises:
        InputError: The tokenizer has no such symbol or language token, or both are set.
    """
    if config.tag is not None:
        if config.target_language is not None:
            raise InputError(
                "tag and target_language must not both be set; got "
                f"tag={config.tag!r}, target_language={config.target_language!r}."
            )
        return tokenizer.tag_id(config.tag)
    return None if config.target_language is None else tokenizer.language_id(config.target_language)


def search_ids(
    special: SpecialIds, config: SearchConfig, unwritten: Sequence[int] = ()
) -> decoding.SpecialIds:
    """Returns the special ids of a search.

    Only ordinary tokens, symbols that are not among the `unwritten` and the end token are chosen,
    and the unknown one, if `config` allows it.
    """
    suppressed: tuple[int, ...] = (special.pad, special.start, *unwritten)
    if config.suppress_unknown:
        suppressed += (special.unknown,)
    return decoding.SpecialIds(special.start, special.end, special.pad, suppressed)


def search_texts(
    model: SearchModel,
    limits: tf.Tensor,
    special: SpecialIds,
    config: SearchConfig,
    *,
    n_best: int | tf.Tensor,
    rules: Sequence[Rule],
    unwritten: Sequence[int] = (),
) -> Hypotheses:
    """Finds the `n_best` sequences: greedily if the beam size is 1, else by beam search."""
    ids = search_ids(special, config, unwritten)
    options: dict[str, Any] = {"rules": rules, "score_forced_end": config.score_forced_end}
    if config.beam_size == 1:
        return greedy_search(model, limits, ids, **options)
    options |= {"beam_size": config.beam_size, "early_stopping": config.early_stopping}
    return beam_search(model, limits, ids, n_best=n_best, **options)


def decode_n_best(tokenizer: BaseTokenizer, ids: tf.Tensor) -> tf.Tensor:
    """Turns ids `[B, K, T]` into texts `[B, K]`."""
    shape = tf.shape(ids)
    return tf.reshape(tokenizer.decode(tf.reshape(ids, [-1, shape[2]])), shape[:2])


def first_best(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the outputs of an n-best search with the best `text` and `score` alone."""
    return {**outputs, "text": outputs["text"][:, 0], "score": outputs["score"][:, 0]}


def start_labels(labels: tf.Tensor, start: int) -> tf.Tensor:
    """Returns the inputs that predict labels `[B, T]`: the start token and all but the last."""
    return tf.concat([tf.fill([tf.shape(labels)[0], 1], start), labels[:, :-1]], axis=1)


def score_labels(labels: tf.Tensor, logits: tf.Tensor, pad: int) -> dict[str, tf.Tensor]:
    """Adds up the log-probabilities of labels `[B, T]` under logits `[B, T, V]`.

    Returns:
        `log_probability`, float32 `[B]`, and `tokens`, int32 `[B]`, the number of labels that are
        not padding.
    """
    weights = token_weights(labels, pad)
    losses = smoothed_cross_entropy(labels, logits)
    return {
        "log_probability": -tf.reduce_sum(losses * weights, axis=1),
        "tokens": tf.cast(tf.reduce_sum(weights, axis=1), tf.int32),
    }
