"""Translates the text of HTML, and leaves its markup as it is."""

import html
import itertools
import re
from collections.abc import Awaitable, Callable, Sequence
from html.parser import HTMLParser

_KEPT = frozenset({"code", "kbd", "pre", "samp", "script", "style", "textarea", "var"})
_EMPTY = frozenset(  # Elements without an end.
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
)
_INLINE = frozenset(  # Elements within a sentence.
    {"a", "abbr", "b", "bdi", "bdo", "br", "cite", "data", "del", "dfn", "em", "font", "i", "ins"}
    | {"mark", "q", "s", "small", "span", "strong", "sub", "sup", "time", "u", "wbr"}
)


class _Splitter(HTMLParser):
    """Finds where the text and the markup of HTML begin; `places` has (offset, is text) pairs.

    The parser tells of each piece in turn, not how it was written: that is read between two places.
    """

    def __init__(self, content: str, inline: frozenset[str]) -> None:
        super().__init__(convert_charrefs=False)
        self.places: list[tuple[int, bool]] = []
        self._inline = inline
        self._kept: list[str] = []  # The open elements whose text is not translated.
        ends = [place + 1 for place, character in enumerate(content) if character == "\n"]
        self._lines = [0, *ends]
        self.feed(content)
        self.close()

    def _note(self, *, is_text: bool) -> None:
        line, column = self.getpos()
        self.places.append((self._lines[line - 1] + column, is_text and not self._kept))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if (tag in _KEPT or ("translate", "no") in attrs) and tag not in _EMPTY:
            self._kept.append(tag)
        elif self._kept and tag == self._kept[-1]:
            self._kept.append(tag)  # Its end is not that of the one around it.
        self._note(is_text=tag in self._inline)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(is_text=tag in self._inline)

    def handle_endtag(self, tag: str) -> None:
        self._note(is_text=tag in self._inline)
        if self._kept and self._kept[-1] == tag:
            self._kept.pop()

    def handle_data(self, data: str) -> None:
        self._note(is_text=True)

    def handle_entityref(self, name: str) -> None:
        self._note(is_text=True)

    def handle_charref(self, name: str) -> None:
        self._note(is_text=True)

    def handle_comment(self, data: str) -> None:
        self._note(is_text=False)

    def handle_decl(self, decl: str) -> None:
        self._note(is_text=False)

    def unknown_decl(self, data: str) -> None:
        self._note(is_text=False)

    def handle_pi(self, data: str) -> None:
        self._note(is_text=False)


def split_html(content: str, *, keep_inline: bool) -> list[str]:
    """Splits HTML into what stays, at even places, and text, at odd ones.

    Text of elements such as `code`, and of those with `translate="no"`, stays.

    Args:
        content: The HTML, of a page or of a part of one; a tag that is never closed is text.
        keep_inline: Whether tags within a sentence, such as `b`, are part of the text, for a model
            that copies them; else they cut it.
    """
    places = _Splitter(content, _INLINE if keep_inline else frozenset()).places
    parts = [""]
    for (start, is_text), (end, _) in itertools.pairwise([*places, (len(content), False)]):
        if is_text == len(parts) % 2:  # It is of the other kind than the last part.
            parts.append("")
        parts[-1] += content[start:end]
    return parts


async def translate_html(
    content: str,
    translate: Callable[[Sequence[str]], Awaitable[Sequence[str]]],
    *,
    copies_tags: bool,
) -> str:
    """Translates HTML.

    Args:
        content: The HTML.
        translate: Translates texts.
        copies_tags: Whether `translate` keeps tags.
    """
    parts = split_html(content, keep_inline=copies_tags)
    places = [i for i in range(1, len(parts), 2) if parts[i].strip()]
    texts = [_unescape(parts[i], copies_tags) for i in places]
    for place, text in zip(places, await translate(texts), strict=True):
        parts[place] = text if copies_tags else html.escape(text, quote=False)
    return "".join(parts)


def _unescape(text: str, has_tags: bool) -> str:
    """Returns text without entities; beside tags, those of `<`, `>` and `&` stay."""
    if not has_tags:
        return html.unescape(text)
    return re.sub(
        r"&#?\w+;",
        lambda found: found[0] if html.unescape(found[0]) in "<>&" else html.unescape(found[0]),
        text,
    )
