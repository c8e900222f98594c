"""BERT's normalisation as a table of characters, for tensorflow-text's FastBertNormalizer."""

import functools
import unicodedata
from collections.abc import Mapping

import numpy as np

from ktransformer.text.bert_characters import (
    DELETED,
    MARKS,
    NEWER_COMPOSED,
    NEWER_LOWER,
    PARTS_OF_WORDS,
    SPACES,
    WORDS_OF_THEIR_OWN,
)

_IN_NO_VOCABULARY = "\uffff"
_WITHOUT_MARKS = dict.fromkeys(MARKS)
_CHANGED = 1 << 30  # Set in the value of every character of a table.
_LEAF = 1 << 31
_BLOCK = 256  # Cells among which the children of a node lie.


@functools.cache
def normalizing_table(*, lowercase: bool, strip_accents: bool) -> Mapping[str, str]:
    """Returns the text that takes the place of each character, for those that change.

    A character that `FastWordpieceTokenizer` would split from its word, but BERT does not, becomes
    one that is in no vocabulary: its word is unknown, as it is for BERT.

    Args:
        lowercase: Whether letters lose their case.
        strip_accents: Whether letters lose their accents.

    Reference: the program of Devlin et al. 2019, in the form of Hugging Face's `BertNormalizer`.
    """

    def normal(point: int) -> str:
        if point in DELETED:
            return ""
        if point in SPACES:
            return " "
        if point in PARTS_OF_WORDS:
            return _IN_NO_VOCABULARY
        text = chr(point)
        if point in WORDS_OF_THEIR_OWN:
            return f" {text} "
        if strip_accents and point not in NEWER_COMPOSED:
            text = unicodedata.normalize("NFD", text).translate(_WITHOUT_MARKS)
        return text.translate(NEWER_LOWER).lower() if lowercase else text

    # No letter lies beyond.
    points = {*range(0x30000), *DELETED, *MARKS}.difference(range(0xD800, 0xE000))
    return {chr(point): text for point in sorted(points) if (text := normal(point)) != chr(point)}


def normalizer_model(table: Mapping[str, str]) -> np.ndarray:
    """Returns a table as the flatbuffer that `FastBertNormalizer` takes: uint8 `[N]`.

    Args:
        table: Texts of at most 63 bytes of UTF-8, by character.
    """
    import flatbuffers

    pool = bytearray()
    values: dict[bytes, int] = {}
    places = {"": 0}
    for character, text in table.items():
        content = text.encode()
        if text not in places:
            places[text] = len(pool)
            pool += content
        values[character.encode()] = _CHANGED | places[text] << 6 | len(content)
    zero = values.pop(b"\0", 0)  # The trie cannot hold it.
    builder = flatbuffers.Builder(1 << 20)
    texts = builder.CreateNumpyVector(np.frombuffer(bytes(pool), np.uint8))
    trie = builder.CreateNumpyVector(double_array(values))
    builder.StartObject(4)  # The first field says how it was made, and is read by nobody.
    builder.PrependUOffsetTRelativeSlot(1, trie, 0)
    builder.PrependInt32Slot(2, zero, 0)
    builder.PrependUOffsetTRelativeSlot(3, texts, 0)
    builder.Finish(builder.EndObject())
    return np.frombuffer(bytes(builder.Output()), np.uint8)


def double_array(values: Mapping[bytes, int]) -> np.ndarray:
    """Returns a trie in Darts-clone's layout: uint32 `[N]`.

    A cell holds the label that leads to its node (8 bits), whether the node has a value (bit 8),
    and the exclusive or of its own index and the base of its children (from bit 10 on). The child
    of label c lies at base ^ c, and a value at the base itself, marked by bit 31. No two nodes
    share a base, so the label in a cell tells whose child it is; equal subtrees are one node.

    Args:
        values: From 0 to 2**31 - 1, by key. No key is empty, has a zero byte or begins another.
    """
    root, nodes = _merged_nodes(values)
    inner = {i: node for i, node in enumerate(nodes) if isinstance(node, tuple)}
    leaves = [i for i in range(len(nodes)) if i not in inner]
    size = _BLOCK * (len(inner) + -(-len(leaves) // _BLOCK) + 1)
    free, is_base = np.ones(size, bool), np.zeros(size, bool)
    free[0] = False  # The root's cell.
    bases = {}
    for i in sorted(inner, key=lambda i: -len(inner[i])):
        labels = np.array([label for label, _ in inner[i]])
        starts = np.flatnonzero(free) ^ labels[0]
        base = next(each for each in starts if not is_base[each] and free[each ^ labels].all())
        bases[i], is_base[base], free[base ^ labels] = int(base), True, False
    for i, base in zip(leaves, np.flatnonzero(free & ~is_base), strict=False):
        bases[i], free[base] = int(base), False
    cells = np.zeros(_BLOCK * (int(np.flatnonzero(~free)[-1]) // _BLOCK + 1), np.uint32)

    def cell(index: int, label: int, child: int) -> int:
        return label | (child not in inner) << 8 | (index ^ bases[child]) << 10

    cells[0] = cell(0, 0, root)
    for i, base in bases.items():
        node = nodes[i]
        if isinstance(node, int):
            cells[base] = _LEAF | node
        else:
            for label, child in node:
                cells[base ^ label] = cell(base ^ label, label, child)
    return cells


_Node = int | tuple[tuple[int, int], ...]  # A value, or label and index of each child.


def _merged_nodes(values: Mapping[bytes, int]) -> tuple[int, list[_Node]]:
    """Returns the root of a trie, as an index, and all its nodes, equal ones once."""
    places: dict[_Node, int] = {}
    levels: list[dict[bytes, int]] = [{} for _ in range(max(map(len, values)) + 1)]
    for key, value in values.items():
        levels[len(key)][key] = places.setdefault(value, len(places))
    for i in range(len(levels) - 1, 0, -1):
        children: dict[bytes, list[tuple[int, int]]] = {}
        for key, place in levels[i].items():
            children.setdefault(key[:-1], []).append((key[-1], place))
        for prefix, each in children.items():
            levels[i - 1][prefix] = places.setdefault(tuple(sorted(each)), len(places))
    return levels[0][b""], list(places)
