"""Translation with a terminology: target terms that stand for the source terms of a text."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.decoding import RequiredPhrases
from ktransformer.errors import InputError
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.task import LiteSignature
from ktransformer.tasks.transformer_search import TransformerSearch
from ktransformer.tasks.written_texts import decode_n_best, lengths_of, search_texts, spread_ids
from ktransformer.text import BaseTokenizer
from ktransformer.text.character_classes import character_classes, is_one_of
from ktransformer.text.code_points import CodePoints, count_at, to_bytes, to_code_points
from ktransformer.text.phrases import WORD_CLASSES, find_phrases
from ktransformer.text.piece_model import SPACE

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator

TERM_BONUS = 8.0
"""The bonus of `RequiredPhrases`; docs/terms.md has the measurement."""
_EXAMPLES = 3  # Terms that `verify` asks for.


class _Required(NamedTuple):
    """The phrases that the translations of B texts must contain."""

    ids: tf.Tensor  # [B, C, L], padded.
    lengths: tf.Tensor  # [B, C]


@graph_method(
    input_signature=[
        tf.TensorSpec([None], tf.string, name) for name in ("texts", "source_terms", "target_terms")
    ]
)
def translate_with_terms(
    self: "Translator", texts: tf.Tensor, source_terms: tf.Tensor, target_terms: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Translates texts `[B]` with a terminology: `source_terms` and `target_terms`, `[n]` each.

    Source terms are found as `find_phrases` says, and the search writes the target terms of those
    that are there; see `RequiredPhrases`. A source term that is empty is nowhere; a target term
    that is no text of the tokenizer is not asked for. There may be no terms, n = 0.

    Returns:
        `text`, string `[B]`; `score`, float32 `[B]`, and `truncated`, boolean `[B]`, as of
        `translate_texts`; `terms_found`, int32 `[B]`, the different terms of the source;
        `terms_written`, int32 `[B]`, those of them whose target terms the translation has.
    """
    source, truncated = self._encode(texts)
    tokenizer = self.target_tokenizer
    sources, targets = _to_points(source_terms), _to_points(target_terms)
    found = find_phrases(_to_points(texts, rows=0), sources)  # [B, n + 1]
    required = _require(found, *_encode_terms(tokenizer, target_terms, self.max_target_length))
    rule = RequiredPhrases(*required, _find_continuing(tokenizer), self.term_bonus)
    more = tf.reduce_sum(required.lengths, axis=1)
    best = search_texts(
        TransformerSearch(self.model, source),
        tf.minimum(self.find_limits(source) + more, self.max_target_length),
        tokenizer.special_ids,
        self.decoding,
        n_best=1,
        rules=(*self.find_rules(), rule),
        unwritten=tokenizer.unwritten_ids,
    )
    best = self.end_empty(source, best)
    text = decode_n_best(tokenizer, best.ids)[:, 0]
    written = found & find_phrases(_to_points(text, rows=0), targets)
    return {
        "text": text,
        "score": best.scores[:, 0],
        "truncated": truncated,
        "terms_found": _count(found),
        "terms_written": _count(written),
    }


def _to_points(texts: tf.Tensor, rows: int = 1) -> CodePoints:
    """Returns the characters of texts, and of so many empty ones behind them."""
    points = to_code_points(to_bytes(texts))
    last = points.row_splits[-1:]
    return points._replace(row_splits=tf.concat([points.row_splits, *[last] * rows], axis=0))


def _encode_terms(
    tokenizer: BaseTokenizer, terms: tf.Tensor, limit: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the ids `[n + 1, L]` of terms, and their numbers, 0 for one that cannot be asked for.

    The last row is empty, so that there is one.
    """
    special = tokenizer.special_ids
    ids, truncated = tokenizer.encode_dense(terms, limit)
    known = ~truncated
    for never in (special.unknown, *tokenizer.unwritten_ids):
        known = known & tf.reduce_all(ids != never, axis=1)
    lengths = tf.where(known, lengths_of(ids, special.pad) - 1, 0)
    ids = tf.pad(ids, [[0, 1], [0, 0]], constant_values=special.pad)
    return ids, tf.pad(lengths, [[0, 1]])


def _require(found: tf.Tensor, ids: tf.Tensor, lengths: tf.Tensor) -> _Required:
    """Gathers the phrases of each text: `[B, n]`, `[n, L]`, `[n]`; at least one, maybe empty."""
    places = tf.cast(tf.where(found & (lengths > 0)), tf.int32)  # [P, 2], text by text.
    row, term = places[:, 0], places[:, 1]
    rows, count = tf.shape(found)[0], tf.shape(row)[0]
    counts = count_at(row, rows)
    number = tf.range(count) - tf.gather(tf.cumsum(counts, exclusive=True), row)
    most = tf.reduce_max(tf.concat([counts, [1]], axis=0))  # C
    nothing = tf.shape(lengths)[0] - 1  # The term without a token, for texts that have fewer.
    chosen = tf.scatter_nd(tf.stack([row, number], axis=1), term - nothing, tf.stack([rows, most]))
    chosen = chosen + nothing
    return _Required(tf.gather(ids, chosen), tf.gather(lengths, chosen))


def _find_continuing(tokenizer: BaseTokenizer) -> tf.Tensor:
    """Returns the pieces that go on with the word before them: boolean `[V]`."""
    pieces = tokenizer.pieces(range(tokenizer.vocabulary_size))
    if tokenizer.kind == "sentencepiece":
        first = [-1 if not piece or piece[0] == SPACE else ord(piece[0]) for piece in pieces]
        with tf.init_scope():
            points = tf.maximum(tf.constant(first), 0)
            continues = is_one_of(character_classes(points), *WORD_CLASSES).numpy()
    else:
        continues = np.array([piece.startswith("##") for piece in pieces])
    return tf.constant(continues)


def _count(found: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.cast(found, tf.int32), axis=1)


# Its exports.


def lite_terms(translator: "Translator", texts: tf.Tensor, batch_size: int | None) -> LiteSignature:
    """Returns the signature of a .tflite, to try on texts `[B]`.

    Raises:
        InputError: The batch is of a fixed size: the number of terms is open.
    """
    if batch_size is not None:
        raise InputError(
            "terms takes any number of terms, so that it must be left out of the signatures of a "
            f".tflite with a fixed batch; got batch_size={batch_size}."
        )
    return translator.text_signature("terms", None, example_terms(translator, texts.numpy()))


def example_terms(translator: "Translator", texts: np.ndarray) -> dict[str, np.ndarray]:
    """Returns inputs to try the signature on: words of texts `[B]`, with pieces for their targets.

    Args:
        translator: The translator.
        texts: UTF-8.
    """
    tokenizer = translator.target_tokenizer
    words = list(dict.fromkeys(word for text in texts for word in text.split()[:1]))[:_EXAMPLES]
    pieces = tokenizer.decode(tf.constant(spread_ids(tokenizer, 50)[:, None])).numpy()
    targets = [piece for piece in pieces if piece.isalnum()][-_EXAMPLES:]
    count = min(len(words), len(targets))
    return {
        "texts": texts,
        "source_terms": np.array(words[:count], dtype=object),
        "target_terms": np.array(targets[:count], dtype=object),
    }
