"""Tests of clients need programs that not every machine has."""

import os
import shutil

import pytest


def need(found: object, what: str) -> None:
    """Skips a test whose program is missing; where all is asked for (CI), fails it."""
    if not found:
        outcome = pytest.fail if os.environ.get("KTRANSFORMER_TEST_ALL") else pytest.skip
        outcome(f"This test needs {what}.")


def need_program(*names: str) -> str:
    """Returns the path of the first program that is there."""
    found = [path for path in map(shutil.which, names) if path]
    need(found, " or ".join(names))
    return found[0]
