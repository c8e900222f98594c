"""A rule that makes each sentence's hypotheses contain given phrases."""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from ktransformer.decoding.hypotheses import IMPOSSIBLE
from ktransformer.decoding.rules.rule import Context, Rule, checked

_FORCED = 30.0  # So far above the best logit a token is all but certain.
_UNLIKELY = 2.0  # How far below the best logit a token is unlikely to be chosen without a bonus.


class _State(NamedTuple):
    """Letters: N hypotheses, C phrases, L tokens of the longest."""

    ids: tf.Tensor  # [N, C, L]
    lengths: tf.Tensor  # [N, C]
    bonus: tf.Tensor  # [N]
    done: tf.Tensor  # [N, C], whether the phrase is written, or there is none.
    complete: tf.Tensor  # [N, C], whether the last token but one was the phrase's last.
    unlikely: tf.Tensor  # [N, C], whether the bonus alone can have begun the phrase.
    forced: tf.Tensor  # [N, C], whether it did.


class _Progress(NamedTuple):
    """How far the newest tokens have come in each phrase."""

    count: tf.Tensor  # [N, C], the tokens written of it; not all.
    complete: tf.Tensor  # [N, C], whether the newest token is its last.


@dataclasses.dataclass(frozen=True, eq=False)
class RequiredPhrases(Rule):
    """Makes every hypothesis contain the phrases of its sentence; its limit goes first.

    The logit of the next token of each missing phrase gets a bonus, so that the phrase is begun
    where its probability is highest, and the end token is excluded until all are written. A phrase
    that was begun for the bonus alone is continued. Where the model would end, or the limit leaves
    no more room, one is begun in any case. A word that goes on behind a phrase is another word: it
    is made unlikely, and the phrase counts as missing if it comes.

    Args:
        ids: Int32 `[B, C, L]`, the tokens of C phrases for each sentence, padded at the end; C and
            L are at least 1.
        lengths: Int32 `[B, C]`, their numbers of tokens; 0 for no phrase.
        continues: Boolean `[V]`, the tokens that go on with the word before them.
        bonus: Float32 `[B]`, or one number for all, at least 0. A phrase is begun where its first
            token has about `exp(-bonus)` of the probability of the best.

    Raises:
        InputError: `bonus` is no number or negative.

    Reference: Hokamp and Liu 2017, and Post and Vilar 2018, who keep places of the beam for
        hypotheses with more of the phrases; here a bonus keeps them in the beam, and greedy search
        and sampling obey, too.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    continues: tf.Tensor
    bonus: float | tf.Tensor

    def __post_init__(self) -> None:
        if not tf.is_tensor(self.bonus):
            object.__setattr__(self, "bonus", checked("bonus", self.bonus))

    def start(self, rows: tf.Tensor) -> Any:
        none = tf.zeros_like(self.lengths) > 0
        bonus = tf.zeros([rows]) + self.bonus
        return _State(self.ids, self.lengths, bonus, self.lengths < 1, none, none, none)

    def apply(self, logits: tf.Tensor, context: Context, state: Any) -> tuple[tf.Tensor, Any]:
        newest = tf.gather(context.ids, tf.maximum(context.index - 1, 0), axis=1)
        goes_on = tf.gather(self.continues, newest) & (context.index > 0)
        done = state.done | (state.complete & ~tf.expand_dims(goes_on, 1))
        progress = _find_progress(state, context)
        complete = progress.complete & ~done
        missing = ~done & ~complete  # [N, C]
        tokens = tf.gather(state.ids, progress.count, batch_dims=2)  # [N, C], the next ones.
        forced = (progress.count > 0) & tf.where(progress.count == 1, state.unlikely, state.forced)
        best = tf.reduce_max(logits, axis=1, keepdims=True)
        next_logits = tf.gather(logits, tokens, batch_dims=1)  # [N, C]
        unlikely = next_logits < best - _UNLIKELY

        own = tf.expand_dims(state.bonus, 1)
        count = tf.where(missing, progress.count, 0)
        left = tf.reduce_sum(tf.where(missing, state.lengths, 0), axis=1)
        ends = tf.argmax(logits, axis=1, output_type=tf.int32) == context.special.end
        must = tf.expand_dims(ends | (context.counts + left + 1 >= context.limits), 1)
        begun = tf.reduce_any(forced & missing, axis=1, keepdims=True)
        # One phrase at a time: the one that was begun, or has come furthest.
        only = tf.where(begun, forced, count == tf.reduce_max(count, axis=1, keepdims=True))
        likeliest = tf.where(only & missing, next_logits, IMPOSSIBLE)
        gap = best - tf.reduce_max(likeliest, axis=1, keepdims=True)
        bonus = tf.where(begun | must, tf.where(only, gap + _FORCED, 0.0), own)
        logits = logits + _spread(tokens, tf.where(missing, bonus, 0.0), logits.shape[-1])
        follows = tf.reduce_any(complete, axis=1, keepdims=True) & self.continues
        logits = logits - tf.where(follows, own, 0.0)
        is_end = tf.one_hot(context.special.end, logits.shape[-1], on_value=True, off_value=False)
        early = tf.reduce_any(missing, axis=1, keepdims=True) & is_end
        logits = tf.where(early, IMPOSSIBLE, logits)
        return logits, state._replace(
            done=done, complete=complete, unlikely=unlikely, forced=forced
        )


def _find_progress(state: _State, context: Context) -> _Progress:
    """Compares the newest tokens with the beginnings of each phrase, of 1 to L tokens."""
    longest = tf.shape(state.ids)[2]
    places = tf.range(longest)  # [L]
    behind = context.index - longest + places
    tail = tf.gather(context.ids, tf.maximum(behind, 0), axis=1)
    tail = tf.where(behind >= 0, tail, -1)  # [N, L], the newest tokens.
    sizes = places + 1
    inside = places < tf.expand_dims(sizes, 1)  # [L, L]: which tokens a beginning of so many has.
    shifted = tf.where(inside, places + longest - tf.expand_dims(sizes, 1), 0)
    newest = tf.expand_dims(tf.gather(tail, shifted, axis=1), 1)  # [N, 1, L, L]
    written = tf.reduce_all((newest == tf.expand_dims(state.ids, 2)) | ~inside, axis=3)  # [N, C, L]
    lengths = tf.expand_dims(state.lengths, 2)
    begun = tf.where(written & (sizes < lengths), sizes, 0)
    return _Progress(
        count=tf.reduce_max(begun, axis=2),
        complete=tf.reduce_any(written & (sizes == lengths), axis=2),
    )


def _spread(tokens: tf.Tensor, bonus: tf.Tensor, size: int) -> tf.Tensor:
    """Gives each token the mean of its bonuses that are not 0: `[N, C]` twice -> `[N, V]`."""
    same = tf.expand_dims(tokens, 2) == tf.expand_dims(tokens, 1)
    same = same & tf.expand_dims(bonus > 0, 1)  # [N, C, C]
    count = tf.reduce_sum(tf.cast(same, tf.float32), axis=2)
    rows = tf.shape(tokens)[0]
    row = tf.zeros_like(tokens) + tf.expand_dims(tf.range(rows), 1)
    places = tf.reshape(tf.stack([row, tokens], axis=2), [-1, 2])
    shares = tf.reshape(bonus / tf.maximum(count, 1.0), [-1])
    return tf.scatter_nd(places, shares, tf.stack([rows, size]))
