"""Detects subclasses that override a method and not another one that must agree with it."""

from collections.abc import Sequence
from typing import Any


def check_overrides(layer: Any) -> None:
    """Raises if a subclass overrides a whole-sequence method without its cached counterpart.

    Cached decoding does not call whole-sequence methods, such as `call`. The class attribute
    `cached_counterparts` maps each of them to the methods that replace it in decoding. A subclass
    that overrides the former must override one of the latter, in the same class or a more derived
    one.

    Args:
        layer: A layer or model; one without `cached_counterparts` passes.

    Raises:
        NotImplementedError: A counterpart is missing; the message names the class, the method and
            the counterpart.
    """
    for method, counterparts in getattr(layer, "cached_counterparts", {}).items():
        owner = _find_one_sided(layer, method, counterparts)
        if owner is not None:
            names = " or ".join(counterparts)
            raise NotImplementedError(
                f"{owner.__name__} overrides {method}, which cached decoding does not call, "
                f"and must override {names}, too (with super().{counterparts[0]} alone where "
                f"{method} changes nothing that decoding sees)."
            )


def check_attention_weights(layer: Any, method: str) -> None:
    """Raises if a subclass overrides `call` without the method that returns its attention weights.

    Such a method computes what `call` of its class does, and does not call it. A subclass that
    overrides `call` must override it, in the same class or a more derived one.

    Args:
        layer: A layer whose class defines `call` and the method.
        method: The name of the method.

    Raises:
        NotImplementedError: The method is missing; the message names it and the class.
    """
    owner = _find_one_sided(layer, "call", (method,))
    if owner is not None:
        raise NotImplementedError(
            f"{owner.__name__} overrides call, which {method} does not call, and must override "
            f"{method}, too (with super().{method} alone where call leaves the weights as they "
            "are)."
        )


def _find_one_sided(layer: Any, method: str, counterparts: Sequence[str]) -> type | None:
    """Returns the most derived class that overrides the method and no counterpart after it."""
    for owner in type(layer).__mro__:
        if any(name in vars(owner) for name in counterparts):
            return None
        if method in vars(owner):
            return owner
    return None
