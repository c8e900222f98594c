"""Positions: how a model knows the order of its tokens; one file a kind, found by name."""

from typing import Any

import keras

from ktransformer.layers.positions.alibi import ALiBi as ALiBi
from ktransformer.layers.positions.alibi import alibi_slopes as alibi_slopes
from ktransformer.layers.positions.encoding import PositionEncoding as PositionEncoding
from ktransformer.layers.positions.learned import Learned as Learned
from ktransformer.layers.positions.relative import RelativeBias as RelativeBias
from ktransformer.layers.positions.relative import relative_buckets as relative_buckets
from ktransformer.layers.positions.rotary import Rotary as Rotary
from ktransformer.layers.positions.sinusoidal import Sinusoidal as Sinusoidal
from ktransformer.layers.positions.sinusoidal import sinusoidal_positions as sinusoidal_positions

_NAMED: dict[str, PositionEncoding] = {
    "sinusoidal": Sinusoidal(),
    "sinusoidal_interleaved": Sinusoidal(interleaved=True),
    "learned": Learned(),
    "rotary": Rotary(),
    "alibi": ALiBi(),
    "relative": RelativeBias(),
    "none": PositionEncoding(),
}

NAMES = tuple(_NAMED)
"""The names that `get` knows."""


def get(identifier: Any) -> PositionEncoding:
    """Returns positions by name, by configuration, or as they are.

    Args:
        identifier: One of `NAMES`, what `serialize` returned, or a `PositionEncoding`.

    Raises:
        ValueError: The identifier is none of these.
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, PositionEncoding):
        return identifier
    if isinstance(identifier, str) and identifier in _NAMED:
        return _NAMED[identifier]
    raise ValueError(
        f"positions must be one of {NAMES} or a PositionEncoding; got positions={identifier!r}."
    )


def serialize(positions: PositionEncoding) -> str | dict[str, Any]:
    """Returns the name of positions with the options of that name, else their configuration."""
    for name, named in _NAMED.items():
        if positions == named:
            return name
    config: dict[str, Any] = keras.saving.serialize_keras_object(positions)
    return config
