"""Packages whose names are imported when they are first used, with what these need."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, owners: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes `__getattr__` and `__dir__` of a package, whose names are imported on first use.

    Args:
        package: The package's `__name__`.
        owners: Public name to the module of the package that defines it, or to the full name of
            one of another package.

    Returns:
        `__getattr__`, which imports the module of one name, and `__dir__`, which lists all names
        and imports none.
    """

    def get_name(name: str) -> Any:
        if name not in owners:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        owner = owners[name]
        module = owner if owner.startswith("ktransformer.") else f"{package}.{owner}"
        return getattr(importlib.import_module(module), name)

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *owners})

    return get_name, list_names
