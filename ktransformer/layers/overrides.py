"""Finds subclasses that would train one model and decode another."""

from typing import Any


def check_overrides(layer: Any) -> None:
    """Refuses a subclass that overrides a whole-sequence method without its cached counterpart.

    Cached decoding does not call the methods of whole sequences, such as `call`. A class names them
    in `cached_counterparts`, each with the methods that do the same in decoding. A subclass that
    overrides one of the former must override one of the latter in the same class or a more derived
    one.

    Args:
        layer: A layer or model; one without `cached_counterparts` passes.

    Raises:
        NotImplementedError: There is such an override; the message names the class, the method and
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
