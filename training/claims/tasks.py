"""Training data of the experiments; nothing is downloaded.

`dates`: written dates and their ISO forms, which the recipe in `training/dates` makes with Babel.
`sentences`: English prose from the documentation inside Python.
"""

import dataclasses
import datetime
import functools
import pydoc_data.topics
import re
from typing import Any

import numpy as np
from keras import tree

from ktransformer.text import END_ID, PAD_ID, START_ID, Tokenizer
from training.dates import data


@dataclasses.dataclass(frozen=True)
class Split:
    """Inputs and labels of N examples."""

    inputs: Any
    """Int array `[N, T]`, or a dictionary of such arrays."""
    labels: np.ndarray
    """Int array `[N, T]`; `PAD_ID` at positions without a loss."""

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: np.ndarray | slice) -> "Split":
        """Returns the examples of some rows."""
        return Split(tree.map_structure(lambda array: array[rows], self.inputs), self.labels[rows])


@dataclasses.dataclass(frozen=True)
class Task:
    """Training and validation examples, and their tokenizer."""

    train: Split
    validation: Split
    tokenizer: Tokenizer


@functools.cache
def dates(train: int = 5000, validation: int = 500, vocabulary_size: int = 300) -> Task:
    """Makes pairs of dates: inputs `{"source": [N, S], "target": [N, T]}` and labels `[N, T]`.

    Args:
        train: Number of training pairs.
        validation: Number of validation pairs; none of them is a training pair.
        vocabulary_size: Maximum number of pieces, shared by both sides; at least 250, since the
            dates use many scripts.

    Returns:
        The task; the target is the start token and the labels, shifted right by one.
    """
    parts = data.generate(data.Generation(train=train, validation=validation, test=1))
    text = [*parts["train"].sources, *parts["train"].targets]
    tokenizer = Tokenizer.train(text, vocabulary_size, character_coverage=0.999)
    encoded = {
        name: [tokenizer.encode_lines(side) for side in (pairs.sources, pairs.targets)]
        for name, pairs in parts.items()
    }
    kept = (encoded["train"], encoded["validation"])
    lengths = [max(len(ids) for sides in kept for ids in sides[side]) for side in (0, 1)]
    splits = [
        _translation_split(padded(sources, lengths[0]), padded(targets, lengths[1]))
        for sources, targets in kept
    ]
    return Task(*splits, tokenizer)


def _translation_split(source: np.ndarray, labels: np.ndarray) -> Split:
    return Split({"source": source, "target": shifted(labels)}, labels)


def swapped(task: Task) -> Task:
    """Swaps source and target, so that each date has many correct answers."""
    splits = [
        Split(
            {"source": split.labels, "target": shifted(split.inputs["source"])},
            split.inputs["source"],
        )
        for split in (task.train, task.validation)
    ]
    return Task(*splits, task.tokenizer)


@functools.cache
def written_forms(date: str) -> frozenset[str]:
    """Returns every text that the recipe may write for an ISO date; empty if it is not a date."""
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError:
        return frozenset()
    return frozenset(
        data.write_date(day, pattern, locale)
        for locale in data.LOCALES
        for pattern in data.date_patterns(locale)
    )


@functools.cache
def sentences(
    max_length: int = 32,
    *,
    min_length: int = 8,
    vocabulary_size: int = 500,
    validation: int = 300,
    seed: int = 1,
) -> Task:
    """Makes English sentences for a causal language model.

    Args:
        max_length: Maximum tokens of an example, from 8 to 64. Longer sentences are split into
            several examples.
        min_length: Minimum tokens of an example; shorter parts of sentences are dropped.
        vocabulary_size: Maximum number of pieces.
        validation: Minimum number of validation examples; none of them is a training example.
        seed: Seed of the split into training and validation sentences.

    Returns:
        The task: labels int `[N, max_length]`, the padded sentences with their end tokens, and
        inputs int `[N, max_length]`, the start token and the labels, shifted right by one.
    """
    lines = prose()
    order = np.random.default_rng(seed).permutation(len(lines))
    tokenizer = _sentence_tokenizer(vocabulary_size)
    held_out: dict[tuple[int, ...], None] = {}
    train: dict[tuple[int, ...], None] = {}
    for sentence in tokenizer.encode_lines([lines[i] for i in order]):
        part = held_out if len(held_out) < validation else train
        for cut in np.split(sentence, range(max_length, len(sentence), max_length)):
            if len(cut) >= min_length and tuple(cut) not in held_out:
                part[tuple(cut)] = None
    ids = [padded([np.array(cut) for cut in part], max_length) for part in (train, held_out)]
    return Task(*(Split(shifted(part), part) for part in ids), tokenizer)


@functools.cache
def _sentence_tokenizer(vocabulary_size: int) -> Tokenizer:
    return Tokenizer.train(prose(), vocabulary_size, character_coverage=0.9999)


@functools.cache
def prose() -> tuple[str, ...]:
    """Returns the distinct sentences of Python's documentation, without code and tables."""
    found: dict[str, None] = {}
    for topic in pydoc_data.topics.topics.values():
        for paragraph in re.split(r"\n\s*\n", topic):
            if _is_prose(paragraph):
                whole_words = re.sub(r"(?<=\w)-\n\s*", "-", paragraph)
                text = " ".join(whole_words.split())
                found.update(dict.fromkeys(re.split(r"(?<=[.!?]) (?=[A-Z])", text)))
    return tuple(sentence for sentence in found if len(sentence.split()) >= 4)


def _is_prose(paragraph: str) -> bool:
    """Returns whether a paragraph is prose: whole sentences, at least 80% letters and spaces."""
    if re.search(r"^\s*(>>>|\.\.\.|[|+*=~^-]{3})|::=", paragraph, re.MULTILINE):
        return False
    if not re.search(r"[.!?:]\)?$", paragraph.strip()):
        return False
    letters = sum(character.isalpha() or character.isspace() for character in paragraph)
    return letters >= 0.8 * len(paragraph)


def padded(sequences: list[np.ndarray], length: int) -> np.ndarray:
    """Pads N int arrays `[S]` to one int32 array `[N, length]`."""
    ids = np.full((len(sequences), length), PAD_ID, "int32")
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    return ids


def shifted(labels: np.ndarray) -> np.ndarray:
    """Shifts labels `[N, T]` right by one, behind the start token: the inputs of a decoder."""
    start = np.full((len(labels), 1), START_ID, labels.dtype)
    before = np.concatenate([start, labels[:, :-1]], axis=1)
    return np.where((labels == PAD_ID) | (before == END_ID), PAD_ID, before).astype("int32")
