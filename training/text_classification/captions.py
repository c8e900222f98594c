"""Captions whose subject is taken out, to be told from the rest of the caption."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from ktransformer.errors import InputError

SUBJECTS = ("man", "woman", "people", "girl", "boy", "dog")
_WORD = re.compile(rf"\b(?:{'|'.join(SUBJECTS)})\b", re.IGNORECASE)


class Captions(NamedTuple):
    """Captions without their subject, and which it was: its place in `SUBJECTS`."""

    texts: list[str]
    labels: list[int]


def take_out_subjects(lines: Iterable[str]) -> Captions:
    """Keeps the captions that name exactly one subject, once, and takes it out.

    Args:
        lines: English captions, such as those of Multi30k.

    Raises:
        InputError: No caption names one.
    """
    texts, labels = [], []
    for line in lines:
        found = _WORD.findall(line)
        if len(found) == 1:
            texts.append(" ".join(_WORD.sub(" ", line).split()))
            labels.append(SUBJECTS.index(found[0].lower()))
    if not texts:
        raise InputError(f"The text must hold captions that name one of {', '.join(SUBJECTS)}.")
    return Captions(texts, labels)
