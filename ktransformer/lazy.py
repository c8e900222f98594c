"""Packages whose names are imported when they are first used, with what these need."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, owners: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a package: `from package import name` imports one module of it.

    Args:
        package: The package's `__name__`.
        owners: Public name to the module of the package that defines it, or to the full name of
            one of another package.
    """

    def get_name(name: str) -> Any:
        if name not in owners:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        owner = owners[name]
        module = owner if owner.startswith("ktransformer.") else f"{package}.{owner}"
        return getattr(importlib.import_module(module), name)

    return get_name
