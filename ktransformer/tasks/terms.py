"""Translation with a terminology: target terms that stand for the source terms of a text."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import tensorflow as tf

from ktransformer.decoding import RequiredPhrases
from ktransformer.errors import InputError
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.task import LiteSignature
from ktransformer.tasks.transformer_search import TransformerSearch
from ktransformer.tasks.written_texts import lengths_of, search_texts, spread_ids
from ktransformer.text import BaseTokenizer
from ktransformer.text.character_classes import character_classes, is_one_of
from ktransformer.text.code_points import CodePoints, count_at, to_bytes, to_code_points
from ktransformer.text.phrases import WORD_CLASSES, find_phrases
from ktransformer.text.piece_model import SPACE

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator

TERM_BONUSES = (6.0,)
"""The bonuses that a search with terms is tried with; docs/terms.md has the measurement."""
_EXAMPLES = 3  # Terms that `verify` asks for.
_ABOVE_SCORES = 1000.0  # Far above what two scores differ by.


class _Phrases(NamedTuple):
    """Target terms as ids; of one that cannot be asked for the length is 0."""

    ids: tf.Tensor  # [n + 1, L], or [B, C, L] for those of each text; padded.
    lengths: tf.Tensor  # [n + 1], or [B, C].


class _Found(NamedTuple):
    """The translations of B texts."""

    ids: tf.Tensor  # [B, T], padded.
    scores: tf.Tensor  # [B]


@graph_method(
    input_signature=[
        tf.TensorSpec([None], tf.string, name) for name in ("texts", "source_terms", "target_terms")
    ]
)
def translate_with_terms(
    self: "Translator", texts: tf.Tensor, source_terms: tf.Tensor, target_terms: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Translates texts `[B]` with a terminology: `source_terms` and `target_terms`, `[n]` each.

    Source terms are found as `find_phrases` says. A translation that lacks target terms of those
    that are there is searched anew, so that it has them (see `RequiredPhrases`): once with each of
    the `term_bonuses`, of which the best result counts. All others are those of `translate_texts`.
    Spans that the setting `copy` names hold no terms, and are put back at the end.
    A source term that is empty is nowhere; a target term that is no text of the tokenizer is not
    asked for. There may be no terms, n = 0.

    Returns:
        `text`, string `[B]`; `score`, float32 `[B]`, and `truncated`, boolean `[B]`, as of
        `translate_texts`; `terms_found`, int32 `[B]`, the different terms of the source;
        `terms_written`, int32 `[B]`, those of them whose target terms the translation has.
    """
    texts, copied = self._take_out(texts)
    source, truncated = self._encode(texts)
    sources, targets = _to_points(source_terms, rows=1), _to_points(target_terms, rows=1)
    found = find_phrases(_to_points(texts), sources)  # [B, n + 1]
    phrases = _encode_terms(self.target_tokenizer, target_terms, self.max_target_length)
    plain = self.search(source)
    first = _Found(plain.ids[:, 0], plain.scores[:, 0])
    lacking = found & (phrases.lengths > 0) & ~_find_written(self, first.ids, targets)
    lacking = tf.reduce_any(lacking, axis=1)

    def search_again() -> _Found:
        new = _search(self, source, found, lacking, phrases, targets)
        return _replace(first, lacking, new, self.model.pad_id)

    best = _Found(*tf.cond(tf.reduce_any(lacking), search_again, lambda: first))
    written = found & _find_written(self, best.ids, targets)
    found_texts = tf.expand_dims(self.target_tokenizer.decode(best.ids), 1)
    return {
        "text": self._put_back(found_texts, copied)[:, 0],
        "score": best.scores,
        "truncated": truncated,
        "terms_found": _count(found),
        "terms_written": _count(written),
    }


def _search(
    translator: "Translator",
    source: tf.Tensor,
    found: tf.Tensor,
    lacking: tf.Tensor,
    phrases: _Phrases,
    targets: CodePoints,
) -> _Found:
    """Finds translations of the R sentences that lack terms: ids `[R, T]`, scores `[R]`."""
    tokenizer, bonuses = translator.target_tokenizer, translator.term_bonuses
    rows = tf.repeat(tf.cast(tf.where(lacking)[:, 0], tf.int32), len(bonuses))  # [R * bonuses]
    source, found = tf.gather(source, rows), tf.gather(found, rows)
    required = _require(found, phrases)
    bonus = tf.gather(tf.constant(bonuses), tf.range(tf.shape(rows)[0]) % len(bonuses))
    rule = RequiredPhrases(*required, _find_continuing(tokenizer), bonus)
    more = tf.reduce_sum(required.lengths, axis=1)
    best = search_texts(
        TransformerSearch(translator.model, source),
        tf.minimum(translator.find_limits(source) + more, translator.max_target_length),
        tokenizer.special_ids,
        translator.decoding,
        n_best=1,
        rules=(*translator.find_rules(source=source), rule),
        unwritten=tokenizer.unwritten_ids,
    )
    ids, scores = best.ids[:, 0], best.scores[:, 0]
    written = _count(found & _find_written(translator, ids, targets))
    # Those with most terms, and of these the most probable.
    ranks = tf.reshape(tf.cast(written, tf.float32) * _ABOVE_SCORES + scores, [-1, len(bonuses)])
    chosen = tf.argmax(ranks, axis=1, output_type=tf.int32)
    chosen = chosen + tf.range(tf.shape(chosen)[0]) * len(bonuses)
    return _Found(tf.gather(ids, chosen), tf.gather(scores, chosen))


def _replace(first: _Found, lacking: tf.Tensor, new: _Found, pad: int) -> _Found:
    """Puts new translations in the places of those that lack terms."""
    width = tf.maximum(tf.shape(first.ids)[1], tf.shape(new.ids)[1])
    ids = [
        tf.pad(each.ids, [[0, 0], [0, width - tf.shape(each.ids)[1]]], constant_values=pad)
        for each in (first, new)
    ]
    rows = tf.shape(lacking)[0]
    ranks = tf.cumsum(tf.cast(lacking, tf.int32)) - 1
    places = tf.where(lacking, rows + ranks, tf.range(rows))
    return _Found(
        tf.gather(tf.concat(ids, axis=0), places),
        tf.gather(tf.concat([first.scores, new.scores], axis=0), places),
    )


def _find_written(translator: "Translator", ids: tf.Tensor, targets: CodePoints) -> tf.Tensor:
    """Returns which target terms are in the texts of ids: `[B, T]` -> boolean `[B, n + 1]`."""
    return find_phrases(_to_points(translator.target_tokenizer.decode(ids)), targets)


def _to_points(texts: tf.Tensor, rows: int = 0) -> CodePoints:
    """Returns the characters of texts, and of so many empty ones behind them."""
    points = to_code_points(to_bytes(texts))
    last = points.row_splits[-1:]
    return points._replace(row_splits=tf.concat([points.row_splits, *[last] * rows], axis=0))


def _encode_terms(tokenizer: BaseTokenizer, terms: tf.Tensor, limit: int) -> _Phrases:
    """Returns the phrases of terms `[n]`, and an empty one, so that there is one."""
    special = tokenizer.special_ids
    ids, truncated = tokenizer.encode_dense(terms, limit)
    known = ~truncated
    for never in (special.unknown, *tokenizer.unwritten_ids):
        known = known & tf.reduce_all(ids != never, axis=1)
    lengths = tf.where(known, lengths_of(ids, special.pad) - 1, 0)
    ids = tf.pad(ids, [[0, 1], [0, 0]], constant_values=special.pad)
    return _Phrases(ids, tf.pad(lengths, [[0, 1]]))


def _require(found: tf.Tensor, phrases: _Phrases) -> _Phrases:
    """Gathers the phrases of each text, `[B, n + 1]`: at least one, maybe the empty one."""
    places = tf.cast(tf.where(found & (phrases.lengths > 0)), tf.int32)  # [P, 2], text by text.
    row, term = places[:, 0], places[:, 1]
    rows, count = tf.shape(found)[0], tf.shape(row)[0]
    counts = count_at(row, rows)
    number = tf.range(count) - tf.gather(tf.cumsum(counts, exclusive=True), row)
    most = tf.reduce_max(tf.concat([counts, [1]], axis=0))  # C
    nothing = tf.shape(phrases.lengths)[0] - 1  # The empty one, for texts that have fewer.
    chosen = tf.scatter_nd(tf.stack([row, number], axis=1), term - nothing, tf.stack([rows, most]))
    chosen = chosen + nothing
    return _Phrases(tf.gather(phrases.ids, chosen), tf.gather(phrases.lengths, chosen))


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
