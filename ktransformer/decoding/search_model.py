"""What a search drives: it predicts the next token of every hypothesis, and keeps the state."""

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ktransformer.errors import InputError

# Takes the newest ids [N], their position (a scalar) and a state; returns the logits [N, V] of
# the tokens after them and the next state. A state is a nest of tensors whose first axis is N.
StepFunction = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, Any]]

CHUNK = 8
"""Steps between two looks at which sentences are done. Fewer copy the state more often."""


class SearchModel(abc.ABC):
    """Predicts tokens for a search. Letters: B sentences, K hypotheses of each, V tokens.

    Attributes:
        chunk: After how many steps a search drops the sentences that are done, and calls `flush`.
    """

    chunk: int = CHUNK

    @abc.abstractmethod
    def start(self, beam_size: int) -> Any:
        """Returns the state before the first step: a nest of tensors whose first axis is B."""

    @abc.abstractmethod
    def step(
        self, ids: tf.Tensor, index: tf.Tensor, state: Any, parents: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """Predicts the token after the newest one.

        Args:
            ids: Int32 `[B * K]`, the newest token of every hypothesis, those of one sentence next
                to each other.
            index: Int32 scalar, its position, from 0.
            state: What `start`, `flush` or the last step returned.
            parents: Int32 `[B, K]`, which hypothesis of the last step each one continues; None
                where each continues itself.

        Returns:
            Logits `[B * K, V]` and the next state.
        """

    def with_attention(self) -> "SearchModel":
        """Returns a model with the same predictions that has `attention`; here it raises.

        A search calls it where a rule overrides `score_attention`.

        Raises:
            InputError: The model attends to no source.
        """
        raise InputError(
            "rules must hold no rule that scores the attention to a source, such as Coverage, for "
            f"a model without a source; got {type(self).__name__}."
        )

    def attention(self, state: Any) -> tf.Tensor:
        """Returns the attention weights of each source position, summed over the steps so far.

        Args:
            state: What the last step returned.

        Returns:
            Float32 `[B, K, S]`, of the hypotheses as that step had them; 1 at padding.
        """
        raise NotImplementedError

    def flush(self, state: Any) -> Any:
        """Tidies the state up after `chunk` steps; its tensors may grow in this."""
        return state

    def shapes(self, state: Any) -> Any:
        """Returns the static shapes of the state: None where a size changes in a search."""

        def shape(before: tf.Tensor, after: tf.Tensor) -> tf.TensorShape:
            sizes = zip(before.shape[1:], after.shape[1:], strict=True)
            return tf.TensorShape([None, *(old if old == new else None for old, new in sizes)])

        return tf.nest.map_structure(shape, state, self.flush(state))


class StepFunctionModel(SearchModel):
    """Makes a search model of a step function whose state follows its hypotheses.

    Args:
        step: The function; its N is B * K.
        state: What it starts from, first axis B * K.
    """

    def __init__(self, step: StepFunction, state: Any) -> None:
        self._step = step
        self._state = state

    def start(self, beam_size: int) -> Any:
        return self._by_sentence(self._state, beam_size)

    def step(
        self, ids: tf.Tensor, index: tf.Tensor, state: Any, parents: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        beam_size = 1 if parents is None else parents.shape[1]
        if parents is not None:
            state = tf.nest.map_structure(lambda x: tf.gather(x, parents, batch_dims=1), state)
        state = tf.nest.map_structure(lambda x: tf.reshape(x, _merged(x)), state)
        logits, state = self._step(ids, index, state)
        return logits, self._by_sentence(state, beam_size)

    def _by_sentence(self, state: Any, beam_size: int) -> Any:
        """Splits the first axis: `[B * K, ...] -> [B, K, ...]`."""

        def split(tensor: tf.Tensor) -> tf.Tensor:
            shape = tf.concat([[-1, beam_size], tf.shape(tensor)[1:]], axis=0)
            return tf.ensure_shape(tf.reshape(tensor, shape), [None, beam_size, *tensor.shape[1:]])

        return tf.nest.map_structure(split, state)


def _merged(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the shape `[B * K, ...]` of a tensor `[B, K, ...]`."""
    return tf.concat([[-1], tf.shape(tensor)[2:]], axis=0)
