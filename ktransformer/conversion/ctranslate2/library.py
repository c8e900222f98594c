"""The package ctranslate2, which is imported when it is needed."""

import importlib
from typing import Any

from ktransformer.errors import InputError


def import_ctranslate2() -> Any:
    """Returns the module `ctranslate2`.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module("ctranslate2")
    except ImportError as error:
        raise InputError(
            "The format ctranslate2 needs the package ctranslate2, which is not installed: "
            "pip install 'ktransformer[ctranslate2]'."
        ) from error
