"""Decoding that a caller drives: a translator's `encode`, its `decode_step`, and their state."""

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.numbers import to_integer
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.inputs import check_ids, to_tensor

if TYPE_CHECKING:
    from ktransformer.tasks.translator import Translator

SOURCE_IDS = tf.TensorSpec([None, None], tf.int32, "source")
_NEWEST, _INDEX = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)


def check_ids_of(translator: "Translator", name: str, ids: tf.Tensor) -> None:
    """Checks that a translator's model has the ids.

    Raises:
        InputError: It has not.
    """
    check_ids(name, ids.numpy(), translator.model)


@graph_method(input_signature=[SOURCE_IDS], check=check_ids_of)
def encode(self: "Translator", source: tf.Tensor) -> dict[str, tf.Tensor]:
    """Starts the decoding of source ids `[B, S]`, for callers who drive the loop.

    Returns:
        `limits`, int32 `[B]`, the most tokens of each target; `memory_0`, `memory_1`, ...,
        the projected memory; `cache_0`, `cache_1`, ..., its state for
        `max_target_length` tokens of one hypothesis a text. A beam repeats the rows of all.
    """
    source = self.cut(source)
    memory = self.model.prepare_memory(source)
    cache = self.model.empty_state(tf.shape(source)[0], self.max_target_length)
    return {"limits": self.find_limits(source), **name_state(memory=memory, cache=cache)}


def decode_step(  # noqa: D417 - a method of `Translator`, so that `self` is no argument.
    self: "Translator", ids: tf.Tensor, index: tf.Tensor, **state: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Predicts the token after the newest one, for callers who drive the loop.

    Args:
        ids: Int32 `[N]`, the newest token of every hypothesis; the start token at first.
        index: Int32 scalar, its position, from 0.
        **state: The `memory_*` that `encode` returned, and the `cache_*` that it or the last
            step returned.

    Returns:
        `logits`, float32 `[N, V]`, and the next `cache_0`, `cache_1`, ...

    Raises:
        InputError: Part of the state is missing or unknown, or, outside of a graph, an id or
            the position is one that the model does not have; for a graph see `ids`.
    """
    memory, cache = _state_structure(self)
    memory, cache = pack_state(state, memory=memory, cache=cache)
    ids, index = to_tensor("ids", ids, _NEWEST), to_tensor("index", index, _INDEX)
    if not tf.is_symbolic_tensor(ids):
        check_ids_of(self, "ids", ids)
    if not tf.is_symbolic_tensor(index):
        to_integer("index", int(index), least=0, most=self.max_target_length - 1)
    logits, cache = self.model.step(ids, index, cache, memory)
    return {"logits": tf.cast(logits, tf.float32), **name_state(cache=cache)}


def _state_structure(translator: "Translator") -> tuple[Any, Any]:
    """Returns some source's memory and state, for how this model nests its tensors."""
    with tf.init_scope():  # Eagerly, outside the graph that is being traced.
        special = translator.tokenizer.special_ids
        memory = translator.model.prepare_memory(tf.constant([[special.start, special.end]]))
        return memory, translator.model.empty_state(1, 1)


def name_state(**parts: Any) -> dict[str, tf.Tensor]:
    """Names the tensors of nests: `cache=[a, b]` becomes `{"cache_0": a, "cache_1": b}`."""
    return {
        f"{name}_{i}": tensor
        for name, nest in parts.items()
        for i, tensor in enumerate(tf.nest.flatten(nest))
    }


def pack_state(state: dict[str, tf.Tensor], **parts: Any) -> tuple[Any, ...]:
    """Undoes `name_state`.

    Args:
        state: The named tensors.
        **parts: Nests like those that were named.

    Returns:
        The nests, in the order of `parts`, with the tensors of `state`.

    Raises:
        InputError: A tensor is missing or unknown.
    """
    wanted = name_state(**parts)
    if state.keys() != wanted.keys():
        raise InputError(
            f"decode_step takes the state {', '.join(wanted)}, which encode returns; "
            f"got {', '.join(state) or 'none'}."
        )
    return tuple(
        tf.nest.pack_sequence_as(nest, [state[key] for key in name_state(**{name: nest})])
        for name, nest in parts.items()
    )
