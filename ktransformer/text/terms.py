"""Terminologies: source terms and the target terms that stand for them."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ktransformer.errors import InputError, check_unicode, printable
from ktransformer.text.corpus import decode_line
from ktransformer.text.line_limits import normalize_line

Terms = list[tuple[str, str]]
"""Pairs of a source term and its target term."""


def read_terms(path: str | Path) -> Terms:
    """Reads a file with a source term, a tab and its target term on each line, in UTF-8.

    Raises:
        InputError: There is no such file, or a line is not such a pair; see `check_terms`.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    terms: Terms = []
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    for number, line in enumerate(lines, 1):
        columns = decode_line(line, str(path), number).split("\t")
        if len(columns) != 2:
            raise InputError(
                f"{path}, line {number}: a line must have two terms and one tab between them; "
                f"got {len(columns) - 1} tabs."
            )
        terms.append((columns[0], columns[1]))
    return check_terms(terms, origin=str(path))


def check_terms(
    terms: Mapping[str, str] | Iterable[tuple[str, str]],
    *,
    characters: str | None = None,
    origin: str = "terms",
) -> Terms:
    """Returns a terminology as a list of pairs, without spaces around the terms.

    Args:
        terms: The target term of each source term, or pairs of both.
        characters: The characters that the target's tokenizer knows; None where that is not known.
        origin: The file or argument, for the message; pairs are numbered from 1 like its lines.

    Raises:
        InputError: A pair is none of two strings, a term is empty or has a tab or a line end, a
            source term is listed twice, or a target term is no text of the tokenizer: it has a
            character that the tokenizer does not know or writes otherwise.
    """
    known = None if characters is None else {*characters, " "}
    checked: dict[str, str] = {}
    for number, pair in enumerate(terms.items() if isinstance(terms, Mapping) else terms, 1):
        place = f"{origin}, line {number}"
        is_several = isinstance(pair, Iterable) and not isinstance(pair, str)
        pair = tuple(pair) if is_several else (pair,)
        if len(pair) != 2 or not all(isinstance(term, str) for term in pair):
            raise InputError(f"{place}: a pair must be of two strings; got {pair!r}.")
        source, target = (_check_term(term, place) for term in pair)
        if source in checked:
            raise InputError(f"{place}: a source term must be listed once; got {_shown(source)}.")
        if known is not None:
            foreign = "".join(sorted(set(normalize_line(target)) - known))
            if foreign or normalize_line(target) != target:
                reason = f"does not know {_shown(foreign)}" if foreign else "writes it otherwise"
                raise InputError(
                    f"{place}: a target term must be text of the tokenizer, which {reason}; "
                    f"got {_shown(target)}."
                )
        checked[source] = target
    return list(checked.items())


def _check_term(term: str, place: str) -> str:
    check_unicode(place, term)
    if any(each in term for each in "\t\n\r"):
        raise InputError(f"{place}: a term must have no tab or line end; got {_shown(term)}.")
    if not term.strip(" "):
        raise InputError(f"{place}: a term must not be empty.")
    return term.strip(" ")


def _shown(text: str) -> str:
    return f"'{printable(text)}'"
