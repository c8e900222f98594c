"""Translation that a request steers: a prefix, rules of the search, or sampling.

Every option is a tensor, so that no value is traced anew. A request without options takes the
branch of the plain search and costs what `serving_default` costs.
"""

from typing import TYPE_CHECKING, NamedTuple

import tensorflow as tf

from ktransformer.decoding import (
    Coverage,
    FirstTokens,
    ForcedPrefix,
    Hypotheses,
    LengthPenalty,
    MinimumLength,
    NoLoops,
    NoRepeatedNgrams,
    NthFirstToken,
    RepetitionPenalty,
    Rule,
    SuppressedSequences,
    sample,
    sampling_rules,
)
from ktransformer.tasks import annotations
from ktransformer.tasks.controls import MOST_DRAWN
from ktransformer.tasks.decoding_rules import to_rules
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.prefixes import Prefixes, begins_word, read_prefixes, restore_prefixes
from ktransformer.tasks.transformer_search import TransformerSearch
from ktransformer.tasks.written_texts import decode_n_best, search_texts
from ktransformer.text import BaseTokenizer

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator

_GREATEST_PENALTY = 1000.0  # A greater one would leave float32's range with some logits.

_INTEGER, _FLOAT = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
_SCALARS = {
    "n_best": _INTEGER,
    "alternatives": _INTEGER,
    "length_penalty": _FLOAT,
    "min_length": _INTEGER,
    "max_length": _INTEGER,
    "repetition_penalty": _FLOAT,
    "no_repeat_ngram_size": _INTEGER,
    "coverage_penalty": _FLOAT,
    "temperature": _FLOAT,
    "top_k": _INTEGER,
    "top_p": _FLOAT,
    "min_p": _FLOAT,
    "seed": tf.TensorSpec([], tf.int64),
    "annotate": _INTEGER,
}
_INPUTS = [
    *(tf.TensorSpec([None], tf.string, name) for name in ("texts", "prefix", "suppress")),
    *(tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in _SCALARS.items()),
]


class _Request(NamedTuple):
    """The options of a request, in the ranges of the rules."""

    source: tf.Tensor  # [B, S]
    prefixes: Prefixes
    words: SuppressedSequences
    n_best: tf.Tensor
    alternatives: tf.Tensor  # Boolean.
    length_penalty: tf.Tensor
    min_length: tf.Tensor
    max_length: tf.Tensor
    repetition_penalty: tf.Tensor
    no_repeat_ngram_size: tf.Tensor
    coverage_penalty: tf.Tensor
    temperature: tf.Tensor  # 0 for a search.
    top_k: tf.Tensor
    top_p: tf.Tensor
    min_p: tf.Tensor
    seed: tf.Tensor


@graph_method(input_signature=_INPUTS)
def controlled(
    self: "Translator",
    texts: tf.Tensor,
    prefix: tf.Tensor,
    suppress: tf.Tensor,
    n_best: tf.Tensor,
    alternatives: tf.Tensor,
    length_penalty: tf.Tensor,
    min_length: tf.Tensor,
    max_length: tf.Tensor,
    repetition_penalty: tf.Tensor,
    no_repeat_ngram_size: tf.Tensor,
    coverage_penalty: tf.Tensor,
    temperature: tf.Tensor,
    top_k: tf.Tensor,
    top_p: tf.Tensor,
    min_p: tf.Tensor,
    seed: tf.Tensor,
    annotate: tf.Tensor,
) -> dict[str, tf.Tensor]:
    """Translates texts `[B]` as a request asks.

    A negative number stands for the export's own setting. A number out of its range is clipped to
    it, or taken for the export's own.

    Args:
        self: The translator.
        texts: The texts.
        prefix: The beginning of each translation, string `[B]`; `""` for none. What the setting
            `copy` puts back may get into it.
        suppress: Words that are not to be written, string `[n]`; `""` is none.
        n_best: K, the number of translations of each text: of a search at most the beam size, of
            sampling and of alternatives at most 64; below 1 for 1.
        alternatives: 1 for K translations that differ in the first token after the prefix.
        length_penalty: Exponent of the length in the score.
        min_length: The fewest tokens after the prefix, the end token included.
        max_length: The most, likewise.
        repetition_penalty: Lowers the logits of tokens that are there already.
        no_repeat_ngram_size: No translation has twice the same run of so many tokens; 0 for no
            rule.
        coverage_penalty: Lowers the score where parts of the source get little attention.
        temperature: Above 0 draws the translations, the best first; else they are searched for.
        top_k: Draws from so many tokens; below 1 for all.
        top_p: Draws from the tokens that reach this probability; all if outside of (0, 1).
        min_p: Draws from the tokens with this share of the best one's probability.
        seed: Of the draws, int64.
        annotate: 1 to annotate the tokens.

    Returns:
        `text`, string `[B, K]`, with its prefix, and `score`, float32 `[B, K]`, of the text after
        the prefix, best first; `truncated`, boolean `[B]`, whether the text or prefix was cut; and
        what `annotations.annotate` returns of the tokens, those of the prefix among them: `tokens`,
        `log_probability`, `alignment`, `[B, K, T]`, `weights`, `[B, K, T, S]`, and `source_tokens`,
        `[B, S]`; without `annotate` these are padding, with T and S of 1.
    """
    texts, copied = self._take_out(texts)
    source, truncated = self._encode(texts)
    own, tokenizer = self.decoding, self.target_tokenizer
    prefixes = read_prefixes(tokenizer, prefix, self.max_target_length)
    request = _Request(
        source=source,
        prefixes=prefixes,
        words=_read_words(tokenizer, suppress),
        n_best=tf.maximum(n_best, 1),
        alternatives=alternatives > 0,
        length_penalty=_chosen(length_penalty, own.length_penalty),
        min_length=_chosen(min_length, own.min_length),
        max_length=tf.where(max_length < 1, self.max_target_length, max_length),
        repetition_penalty=_chosen(repetition_penalty, own.repetition_penalty, positive=True),
        no_repeat_ngram_size=_chosen(no_repeat_ngram_size, own.no_repeat_ngram_size),
        coverage_penalty=_chosen(coverage_penalty, own.coverage_penalty),
        temperature=temperature,
        top_k=top_k,
        top_p=tf.where((top_p > 0) & (top_p < 1), top_p, 1.0),
        min_p=tf.where(min_p > 0, tf.minimum(min_p, 1.0), 0.0),
        seed=seed,
    )
    ids, scores = tf.cond(
        _changes_nothing(self, request),
        lambda: _search(self, request),
        lambda: tf.cond(
            request.temperature > 0,
            lambda: _draw(self, request),
            lambda: _search_by_rules(self, request),
        ),
    )
    found = restore_prefixes(tokenizer, decode_n_best(tokenizer, ids), prefix, prefixes)
    return {
        "text": self._put_back(found, copied),
        "score": scores,
        "truncated": truncated | prefixes.truncated,
        **_annotate(self, annotate > 0, source, ids),
    }


def _annotate(
    translator: "Translator", wanted: tf.Tensor, source: tf.Tensor, ids: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Annotates ids `[B, K, T]`, if that is wanted; otherwise T and S are 1.

    LiteRT returns no strings `[B, K, 0]`.
    """

    def annotated(source: tf.Tensor, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        k = tf.shape(ids)[1]
        flat = tf.reshape(ids, [-1, tf.shape(ids)[2]])
        found = annotations.annotate(translator, tf.repeat(source, k, axis=0), flat)
        rows = tf.shape(ids)[:2]
        outputs = {
            name: tf.reshape(values, tf.concat([rows, tf.shape(values)[1:]], axis=0))
            for name, values in found.items()
        }
        return {**outputs, "source_tokens": outputs["source_tokens"][:, 0]}

    def nothing() -> dict[str, tf.Tensor]:
        rows, k = tf.shape(ids)[0], tf.shape(ids)[1]
        return {
            "tokens": tf.fill([rows, k, 1], ""),
            "source_tokens": tf.fill([rows, 1], ""),
            "log_probability": tf.zeros([rows, k, 1]),
            "weights": tf.zeros([rows, k, 1, 1]),
            "alignment": tf.zeros([rows, k, 1], tf.int32),
        }

    return tf.cond(wanted, lambda: annotated(source, ids), nothing)


def _chosen(given: tf.Tensor, own: float, *, positive: bool = False) -> tf.Tensor:
    """Returns what a request gives, or the export's own for a number out of range or NaN."""
    is_given = given > 0 if positive else given >= 0
    if given.dtype.is_floating:
        given = tf.clip_by_value(given, 1 / _GREATEST_PENALTY if positive else 0, _GREATEST_PENALTY)
    return tf.where(is_given, given, tf.constant(own, given.dtype))


def _read_words(tokenizer: BaseTokenizer, words: tf.Tensor) -> SuppressedSequences:
    """Turns words `[n]` into the sequences of tokens that spell them."""
    # One more word, of nothing, because a search with rules needs some.
    words = tokenizer.encode(words)
    lengths = tf.cast(words.row_lengths(), tf.int32) - 1  # Without the end token.
    lengths = tf.concat([lengths, [0]], axis=0)
    longest = tf.maximum(tf.reduce_max(lengths), 1)
    places = tf.concat([tf.cast(words.row_splits, tf.int32), [0]], axis=0)[:-1, None]
    steps = tf.range(longest)
    flat = tf.concat([words.flat_values, [tokenizer.special_ids.pad]], axis=0)
    ids = tf.gather(flat, tf.minimum(places + steps, tf.shape(flat)[0] - 1))
    pad = tokenizer.special_ids.pad
    return SuppressedSequences(tf.where(steps < lengths[:, None], ids, pad), lengths)


def _changes_nothing(translator: "Translator", request: _Request) -> tf.Tensor:
    """Tells whether the plain search is enough: another length penalty or limit needs no rule."""
    own = translator.decoding
    return ~(
        tf.reduce_any(request.prefixes.lengths > 0)
        | tf.reduce_any(request.words.lengths > 0)
        | request.alternatives
        | (request.temperature > 0)
        | (request.min_length != own.min_length)
        | (request.repetition_penalty != own.repetition_penalty)
        | (request.no_repeat_ngram_size != own.no_repeat_ngram_size)
        | (request.coverage_penalty != own.coverage_penalty)
    )


def _search(translator: "Translator", request: _Request) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches as `serving_default` does: ids `[B, K, T]` and scores `[B, K]`."""
    rules = translator.find_rules(source=request.source)
    penalty = LengthPenalty(request.length_penalty)
    best = translator.search(
        request.source,
        tf.minimum(request.n_best, translator.decoding.beam_size),
        rules=[penalty if isinstance(rule, LengthPenalty) else rule for rule in rules],
        limits=tf.minimum(translator.find_limits(request.source), request.max_length),
    )
    return best.ids, best.scores


def _search_by_rules(translator: "Translator", request: _Request) -> tuple[tf.Tensor, tf.Tensor]:
    """Searches with the rules of the request."""
    beam_size = translator.decoding.beam_size
    copies = tf.where(request.alternatives, tf.minimum(request.n_best, MOST_DRAWN), 1)
    n_best = tf.where(request.alternatives, 1, tf.minimum(request.n_best, beam_size))
    wide = _repeat(request, copies)
    rows = tf.range(tf.shape(wide.source)[0])
    ranks = tf.where(request.alternatives, rows % copies, -1)
    best = search_texts(
        TransformerSearch(translator.model, wide.source),
        _limits(translator, wide),
        translator.target_tokenizer.special_ids,
        translator.decoding,
        n_best=n_best,
        rules=(*_rules(translator, wide), NthFirstToken(ranks)),
        unwritten=translator.target_tokenizer.unwritten_ids,
    )
    return _collect(translator, wide, best, copies)


def _draw(translator: "Translator", request: _Request) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws the translations."""
    copies = tf.minimum(request.n_best, MOST_DRAWN)
    wide = _repeat(request, copies)
    options = sampling_rules(
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        min_p=request.min_p,
    )
    drawn = sample(
        TransformerSearch(translator.model, wide.source),
        _limits(translator, wide),
        translator.special_search_ids(),
        seed=request.seed,
        score_forced_end=translator.decoding.score_forced_end,
        rules=(*_rules(translator, wide), *options),
    )
    return _collect(translator, wide, drawn, copies)


def _repeat(request: _Request, copies: tf.Tensor) -> _Request:
    """Repeats each text and its prefix: `[B, ...] -> [B * copies, ...]`."""
    source, prefixes = tf.nest.map_structure(
        lambda tensor: tf.repeat(tensor, copies, axis=0), (request.source, request.prefixes)
    )
    return request._replace(source=source, prefixes=prefixes)


def _limits(translator: "Translator", request: _Request) -> tf.Tensor:
    """Returns the most tokens after each prefix: `[B]`."""
    left = translator.max_target_length - request.prefixes.lengths
    limits = tf.minimum(translator.find_limits(request.source), left)
    return tf.maximum(tf.minimum(limits, request.max_length), 1)


def _rules(translator: "Translator", request: _Request) -> tuple[Rule, ...]:
    prefixes, tokenizer = request.prefixes, translator.target_tokenizer
    own = to_rules(translator.decoding, request.source, translator.model.pad_id)
    return (
        LengthPenalty(request.length_penalty),
        RepetitionPenalty(request.repetition_penalty),
        NoRepeatedNgrams(request.no_repeat_ngram_size),
        *(rule for rule in own if isinstance(rule, NoLoops)),
        MinimumLength(request.min_length),
        Coverage(request.coverage_penalty),
        request.words,
        *translator.rules,
        FirstTokens(tf.constant(begins_word(tokenizer)), prefixes.ends_word),
        ForcedPrefix(prefixes.ids, prefixes.lengths),
    )


def _collect(
    translator: "Translator", request: _Request, found: Hypotheses, copies: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts the prefixes before the ids, and the copies of a text in order of their scores."""
    found = translator.end_empty(request.source, found)
    pad = translator.target_tokenizer.special_ids.pad
    # What is behind the longest target is padding, for which there may be no position.
    ids = request.prefixes.join(found.ids, pad)[:, :, : translator.max_target_length]
    k = copies * tf.shape(ids)[1]
    scores = tf.reshape(found.scores, [-1, k])
    ids = tf.reshape(ids, tf.stack([-1, k, tf.shape(ids)[2]]))
    by_score = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    order = tf.where(copies > 1, by_score, tf.range(k))
    return tf.gather(ids, order, batch_dims=1), tf.gather(scores, order, batch_dims=1)
