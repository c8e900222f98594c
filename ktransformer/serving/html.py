"""Translates the text of HTML, and leaves its markup as it is."""

import asyncio
import html
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence

from ktransformer.serving.batching import run_all

Translate = Callable[[Sequence[str]], Awaitable[Sequence[str]]]

_KEPT = frozenset({"code", "kbd", "pre", "samp", "script", "style", "textarea", "var"})
_RAW = frozenset({"script", "style", "textarea"})  # Their content is no markup.
_EMPTY = frozenset(  # Elements without an end.
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
)
_ENDED_BY_NEXT = frozenset({"dd", "dt", "li", "option", "p", "td", "th", "tr"})
_INLINE = frozenset(  # Elements within a sentence.
    {"a", "abbr", "b", "bdi", "bdo", "br", "cite", "data", "del", "dfn", "em", "font", "i", "ins"}
    | {"mark", "q", "s", "small", "span", "strong", "sub", "sup", "time", "u", "wbr"}
)
# A tag ends before the next "<", so that each character is read a few times at most.
_TAG = re.compile(r"""</?+([a-zA-Z][^\s/<>]*+)([^<>"']*+(?:(?:"[^"<]*+"|'[^'<]*+')[^<>"']*+)*+)>""")
_NOT_TRANSLATED = re.compile(r"""\stranslate\s*=\s*["']?no\b""", re.IGNORECASE)
_LINE_BREAK = re.compile(r"(?<![ \t])[ \t]*+[\r\n]\s*")  # Reads a run of spaces once.
# A character's number, of which int() would refuse one of thousands of digits.
_LONG_NUMBER = re.compile(r"&#(?=[0-9]{9})0*+([0-9]{0,8})[0-9]*+")


def split_html(content: str, *, keep_inline: bool) -> list[str]:
    """Splits HTML into what stays, at even places, and text, at odd ones.

    Text of elements such as `code`, and of those with `translate="no"`, stays. A tag, comment or
    declaration that is never closed is text, and so is a tag with a `<` in it.

    Args:
        content: The HTML, of a page or of a part of one.
        keep_inline: Whether tags within a sentence, such as `b`, are part of the text, for a model
            that copies them; else they cut it.
    """
    parts: list[list[str]] = [[]]
    kept: list[str] = []  # The elements that are open from one whose text is not translated on.
    for piece, tag in _pieces(content):
        is_end = piece.startswith("</")
        if kept and is_end:
            _close(kept, tag)
        elif kept and tag == kept[0] and tag in _ENDED_BY_NEXT:
            kept.clear()
        is_text = not kept and (tag in _INLINE if tag and keep_inline else not tag)
        if tag and not is_end and tag not in _EMPTY and not piece.endswith("/>"):
            is_text &= not (begins := tag in _KEPT or bool(_NOT_TRANSLATED.search(piece)))
            if kept or begins:
                kept.append(tag)
        if is_text == len(parts) % 2:  # It is of the other kind than the last part.
            parts.append([])
        parts[-1].append(piece)
    return ["".join(part) for part in parts]


def _close(kept: list[str], tag: str) -> None:
    """Closes an element: one of those that are open, or else one around them, which ends all."""
    while kept and kept.pop() != tag:
        pass


def _pieces(content: str) -> Iterator[tuple[str, str]]:
    """Yields pieces of HTML, each with its tag's name: "!" for a comment, "" for text."""
    closed = {"<!--": "-->", "<![CDATA[": "]]>", "<!": ">", "<?": ">"}
    start = place = 0
    while (place := content.find("<", place)) >= 0:
        opening = next((each for each in closed if content.startswith(each, place)), None)
        if opening is not None:
            last = content.find(closed[opening], place + len(opening))
            end, name = last + len(closed[opening]), "!"
            if last < 0:
                del closed[opening]  # Nor is any later one closed.
                place += 1
                continue
        elif found := _TAG.match(content, place):
            end, name = found.end(), found[1].lower()
        else:
            place += 1
            continue
        if start < place:
            yield content[start:place], ""
        yield content[place:end], name
        if name in _RAW and not content.startswith("</", place):
            raw = re.compile(rf"</{name}\b", re.IGNORECASE).search(content, end)
            last = raw.start() if raw else len(content)
            if end < last:
                yield content[end:last], "!"
            end = last
        start = place = end
    if start < len(content):
        yield content[start:], ""


async def translate_html(content: str, translate: Translate, *, copies_tags: bool) -> str:
    """Translates HTML.

    A line break in text is a space, as browsers read it. Where a model did not copy the tags of a
    text as they are, or moved them so that they no longer nest, the text is translated between its
    tags.

    Args:
        content: The HTML.
        translate: Translates texts; several calls may wait at a time.
        copies_tags: Whether `translate` keeps tags.
    """
    parts = await asyncio.to_thread(split_html, content, keep_inline=copies_tags)
    places = [i for i in range(1, len(parts), 2) if parts[i].strip()]
    found = [_LINE_BREAK.sub(" ", parts[i].strip()) for i in places]
    translations = await translate([_unescape(text, copies_tags) for text in found])
    if copies_tags:
        translations = await _replace_failed(found, translations, translate)
    else:
        translations = [html.escape(each, quote=False) for each in translations]
    for place, new in zip(places, translations, strict=True):
        parts[place] = _put_between_edges(parts[place], new)
    return "".join(parts)


async def _replace_failed(
    texts: Sequence[str], translations: Sequence[str], translate: Translate
) -> list[str]:
    """Translates the texts between their tags, at once, whose translations did not keep these."""
    found = list(translations)
    failed = [i for i, text in enumerate(texts) if not _keeps_tags(text, found[i])]
    again = await run_all(translate_html(texts[i], translate, copies_tags=False) for i in failed)
    for i, new in zip(failed, again, strict=True):
        found[i] = new
    return found


def _put_between_edges(old: str, new: str) -> str:
    """Returns a text with the spaces at the edges of another."""
    start, end = len(old) - len(old.lstrip()), len(old.rstrip())
    return f"{old[:start]}{new}{old[end:]}"


def _keeps_tags(text: str, new: str) -> bool:
    """Tells whether a translation has the tags of its text, in the same order or nested."""
    before, after = _tags(text), _tags(new)
    return before == after or (sorted(before) == sorted(after) and _nests(new))


def _tags(text: str) -> list[str]:
    """Returns what a browser may read as markup."""
    return re.findall(r"<[^>]*>?", text)


def _nests(text: str) -> bool:
    """Tells whether every element begins and ends within the text and within the one around it."""
    opened: list[str] = []
    for piece, tag in _pieces(text):
        if tag not in _INLINE or tag in _EMPTY:
            continue
        if not piece.startswith("</"):
            opened.append(tag)
        elif not opened or opened.pop() != tag:
            return False
    return not opened


def _unescape(text: str, has_tags: bool) -> str:
    """Returns text without entities; beside tags, those with a `<`, `>` or `&` stay."""
    text = _LONG_NUMBER.sub(r"&#0\1", text)
    if not has_tags:
        return html.unescape(text)

    def read(found: re.Match[str]) -> str:
        character = html.unescape(found[0])
        return found[0] if set(character) & set("<>&") else character

    return re.sub(r"&#?\w+;?", read, text)
