"""The tags of a multilingual model, by name, and before texts."""

from collections.abc import Iterable

from ktransformer.errors import InputError
from ktransformer.text.line_limits import is_empty


def find_tag(tag: str, symbols: Iterable[str]) -> str:
    """Returns the symbol that a tag names: `<2de>` for `"2de"` or `"<2de>"`.

    Args:
        tag: The name.
        symbols: The symbols of a model.

    Raises:
        InputError: None of them has this name.
    """
    symbols = tuple(symbols)
    for symbol in (tag, f"<{tag}>"):
        if symbol in symbols:
            return symbol
    if not symbols:
        raise InputError(f"The model has no tags; got tag={tag!r}.")
    raise InputError(f"tag must be one of {', '.join(symbols)}; got {tag!r}.")


def add_tag(text: str, tag: str | None) -> str:
    """Returns a text with a tag before it; an empty text, and any without a tag, as it is.

    Args:
        text: The text.
        tag: The symbol, such as `<2de>`; None for none.
    """
    return text if tag is None or is_empty(text) else f"{tag} {text}"
