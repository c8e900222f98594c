"""The state of a decoding whose loop the caller drives: nested tensors, named one by one."""

from typing import Any

import tensorflow as tf

from ktransformer.errors import InputError


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
