"""Packages whose names are imported when they are first used, with what these need."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, owners: Mapping[str, str]) -> Callable[[str], Any]:
    """Makes the `__getattr__` of a package: `from package import name` imports one module of it.

    Args:
        package: The package's `__name__`.
        owners: Public name to the module of the package that defines it.
    """

    def get_name(name: str) -> Any:
        if name not in owners:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{owners[name]}"), name)

    return get_name
