"""The tags of a multilingual model, by name."""

from collections.abc import Iterable

from ktransformer.errors import InputError


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
