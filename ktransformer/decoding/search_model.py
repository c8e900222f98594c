"""The interface of a search to a model: logits of the next tokens, and the decoding state."""

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ktransformer.errors import InputError

# Takes the newest ids [N], their position (a scalar) and a state; returns the logits [N, V] of
# the tokens after them and the next state. A state is a nest of tensors whose first axis is N.
StepFunction = Callable[[tf.Tensor, tf.Tensor, Any], tuple[tf.Tensor, Any]]

# A number, or an int32 scalar tensor.
Size = Any

CHUNK = 8
"""Steps between two checks for finished sentences; a shorter chunk copies the state more often."""


class SearchModel(abc.ABC):
    """Predicts the next token of every hypothesis of a search.

    Axes: B sentences, K hypotheses per sentence, V ids of the vocabulary.

    Attributes:
        chunk: Steps after which the search calls `flush` and drops finished sentences.
        stages: Positions, ascending, at which the search calls `grow`; the last is the most tokens
            of any target. Between two of them no shape changes and no sentence is dropped, so that
            XLA can compile the search. Empty for a search in chunks.
    """

    chunk: int = CHUNK
    stages: tuple[Size, ...] = ()

    @abc.abstractmethod
    def start(self, beam_size: int) -> Any:
        """Returns the state before the first step.

        Args:
            beam_size: K, hypotheses per sentence.

        Returns:
            A nest of tensors `[B, ...]`.
        """

    @abc.abstractmethod
    def step(
        self, ids: tf.Tensor, index: tf.Tensor, state: Any, parents: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        """Predicts the token after the newest one.

        Args:
            ids: Int32 `[B * K]`, the newest token of every hypothesis, sentence by sentence.
            index: Int32 scalar, the position of these tokens, from 0.
            state: State that `start`, `flush` or the last step returned.
            parents: Int32 `[B, K]`, the index of the hypothesis of the last step that each
                hypothesis continues; None if each continues itself.

        Returns:
            Logits `[B * K, V]` and the next state, a nest of tensors `[B, ...]`.
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
            state: State that the last step returned.

        Returns:
            Float32 `[B, K, S]`, for the hypotheses in the order of that step's ids; 1 at padding.
        """
        raise NotImplementedError

    def flush(self, state: Any) -> Any:
        """Reorganises the state after `chunk` steps, for instance to make room for more positions.

        Args:
            state: State that the last step of the chunk returned.

        Returns:
            The state for the next step; its tensors may be larger, except along the first axis.
        """
        return state

    def grow(self, state: Any, positions: Size) -> Any:
        """Makes room for more positions, where one of `stages` ends.

        Args:
            state: State that the last step returned.
            positions: How many more.
        """
        raise NotImplementedError

    def shapes(self, state: Any) -> Any:
        """Returns the shape invariants of the state in the loop of a search.

        Args:
            state: State that `start` returned.

        Returns:
            A nest of `tf.TensorShape`: None for the first axis and for every size that `flush`
            changes.
        """

        def shape(before: tf.Tensor, after: tf.Tensor) -> tf.TensorShape:
            sizes = zip(before.shape[1:], after.shape[1:], strict=True)
            return tf.TensorShape([None, *(old if old == new else None for old, new in sizes)])

        return tf.nest.map_structure(shape, state, self.flush(state))


class StepFunctionModel(SearchModel):
    """Adapts a step function to a search; reorders the whole state along with the hypotheses.

    Args:
        step: The step function; its N is B * K.
        state: The initial state, a nest of tensors `[B * K, ...]`.
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
