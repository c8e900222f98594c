"""Pairs opening tags with closing ones, in a graph."""

import tensorflow as tf

from ktransformer.text.scan import places_of

_DEPTH = 64  # Tags that are open at once; one that is opened deeper has no partner.
_MOST = 4096  # Tags of a batch; those behind have no partner.


def pair_tags(tags: tf.Tensor, names: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Finds the partner of each tag, as HTML does.

    A closing tag belongs to the innermost open one of its name; those that were opened after that
    one have no partner.

    Args:
        tags: Int32 `[M]`: 1 for an opening tag, -1 for a closing one.
        names: Int32 `[M]`, the same for the tags of one name.
        rows: Int32 `[M]`, ascending: tags of different rows are no pair.

    Returns:
        Int32 `[M]`, the place of the partner; -1 for none.
    """
    depths = tf.range(_DEPTH)

    def step(
        i: tf.Tensor, depth: tf.Tensor, stack: tf.Tensor, opener: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        new_row = rows[i] != rows[tf.maximum(i - 1, 0)]
        depth = tf.where(new_row, 0, depth)
        same = (tf.gather(names, stack) == names[i]) & (depths < depth)
        found = tf.reduce_max(tf.where(same, depths, -1))
        opens = tags[i] > 0
        closes = ~opens & (found >= 0)
        partner = tf.where(closes, tf.gather(stack, tf.maximum(found, 0)), -1)
        opener = tf.where(tf.range(tf.shape(opener)[0]) == i, partner, opener)
        stack = tf.where(opens & (depths == depth), i, stack)
        depth = tf.minimum(tf.where(opens, depth + 1, tf.where(closes, found, depth)), _DEPTH)
        return i + 1, depth, stack, opener

    size = tf.shape(tags)
    count = tf.minimum(size[0], _MOST)
    none = tf.fill(size, -1)
    *_, opener = tf.while_loop(
        lambda i, *_: i < count, step, (0, 0, tf.zeros([_DEPTH], tf.int32), none)
    )
    closers = places_of(opener >= 0)
    at = tf.expand_dims(tf.gather(opener, closers), 1)
    closer = tf.scatter_nd(at, closers + 1, size) - 1
    return tf.maximum(opener, closer)
