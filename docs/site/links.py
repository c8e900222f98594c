"""Makes the links of pages, which hold in the repository, hold in the site.

A page of docs/ lies one folder deeper in the repository than in the site. What is no page of the
site, such as a program, is no link there.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from course import name_claims

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_CODE = re.compile(r"^(```|~~~).*?^\1|^(?: {4}|\t).*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_ALSO = ("training/", "export/")
_ROOT_PAGES = {"README.md": "index.md"}
_CLAIMS = name_claims(Path(__file__).parents[1].joinpath("claims.md").read_text(encoding="utf-8"))


def on_page_markdown(markdown: str, *, page: Any, files: Any, **others: Any) -> str:
    """Rewrites the links of a page; MkDocs calls it."""
    known = {file.src_uri for file in files}
    place = _place_in_repository(page.file.src_uri)

    def rewrite(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, hash_sign, anchor = target.partition("#")
        uri = _uri_in_site(
            posixpath.normpath(posixpath.join(posixpath.dirname(place), path)), known
        )
        if uri is None:
            return text
        if uri == "claims.md" and anchor:  # A page of its own in the site.
            uri, hash_sign, anchor = f"claims/{_CLAIMS[anchor.split('-')[0]]}.md", "", ""
        relative = posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")
        return f"{picture}[{text}]({relative}{hash_sign}{anchor})"

    return _outside_code(_link_notebook(markdown, page.file.src_uri, known), rewrite)


def _link_notebook(markdown: str, uri: str, known: set[str]) -> str:
    """Adds a link to a tutorial's notebook below its title."""
    notebook = f"{uri.removesuffix('.md')}.ipynb"
    if notebook not in known:
        return markdown
    title, rest = markdown.split("\n", 1)
    name = posixpath.basename(notebook)
    return f"{title}\n\n[This page as a notebook]({name}){{ .md-button download }}\n{rest}"


def _outside_code(markdown: str, rewrite: Any) -> str:
    """Rewrites links, but not what looks like one within code."""
    parts, end = [], 0
    for code in _CODE.finditer(markdown):
        parts += [_LINK.sub(rewrite, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(rewrite, markdown[end:])])


def _place_in_repository(uri: str) -> str:
    """Returns where a page of the site lies in the repository."""
    if uri == "index.md":
        return "README.md"
    if uri.startswith((*_ALSO, "reference/")) or uri.isupper() or uri.split(".")[0].isupper():
        return uri
    return f"docs/{uri}"


def _uri_in_site(path: str, known: set[str]) -> str | None:
    """Returns the page or picture of the site that a path of the repository is; None for none."""
    path = _ROOT_PAGES.get(path, path)
    inside = path.removeprefix("docs/")
    for candidate in (path, f"{path}/README.md", inside):
        if candidate in known:
            return candidate
    return None
