"""Matplotlib, which is optional, and the look that all pictures share."""

import contextlib
import importlib.util
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any

from ktransformer.errors import InputError

INK, MUTED, GRID = "#1f2933", "#616e7c", "#e4e7eb"
COLORS = ("#0b6e99", "#c05621", "#2f855a", "#805ad5")


def can_draw() -> bool:
    """Returns whether Matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def missing_sentence(what: str) -> str:
    """Returns the sentence that says what is missing without Matplotlib, and how to get it."""
    return f'{what} needs Matplotlib: pip install "ktransformer[plots]".'


def _import_matplotlib() -> Any:
    """Imports Matplotlib, whatever backend the environment names: none is needed for a file.

    Jupyter names one to all that a notebook starts, also to a command of another environment,
    in which it may be missing. (An import that has failed for it cannot be repeated.)
    """
    kind, _, module = os.environ.get("MPLBACKEND", "").partition("module://")
    if not kind and module and importlib.util.find_spec(module.partition(".")[0]) is None:
        del os.environ["MPLBACKEND"]
    import matplotlib

    return matplotlib


@contextlib.contextmanager
def plain_text(what: str) -> Iterator[None]:
    """Takes texts as they are, with `$`, and warns of no letter that the font lacks.

    Raises:
        InputError: Matplotlib is not installed; `what` was to be drawn.
    """
    if not can_draw():
        raise InputError(missing_sentence(what))
    matplotlib = _import_matplotlib()
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def new_figure(width: float, height: float, what: str) -> Any:
    """Creates a figure without a display.

    Args:
        width: In inches.
        height: Likewise.
        what: What is drawn, for the message: "curves.png".

    Raises:
        InputError: Matplotlib is not installed.
    """
    if not can_draw():
        raise InputError(missing_sentence(what))
    _import_matplotlib()
    from matplotlib.figure import Figure  # Not pyplot, which keeps figures and picks a display.

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def to_png(figure: Any, dpi: int = 120) -> bytes:
    """Returns a figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, dpi=dpi, format="png")
    return content.getvalue()
