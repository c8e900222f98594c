"""Detects subclasses whose cached decoding would differ from their training."""

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
        for owner in type(layer).__mro__:
            if any(name in vars(owner) for name in counterparts):
                break
            if method in vars(owner):
                names = " or ".join(counterparts)
                raise NotImplementedError(
                    f"{owner.__name__} overrides {method}, which cached decoding does not call, "
                    f"and must override {names}, too (with super().{counterparts[0]} alone where "
                    f"{method} changes nothing that decoding sees)."
                )
