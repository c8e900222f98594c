"""What a translator says of each token of a translation, read for people."""

import bisect
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ktransformer.errors import InputError
from ktransformer.tasks.inputs import cut_texts, to_texts
from ktransformer.text.tags import add_tag
from ktransformer.text.token_spans import Span, find_spans, find_words

if TYPE_CHECKING:
    from ktransformer.engines.engine import Engine


@dataclasses.dataclass(frozen=True)
class Annotation:
    """The tokens of a translation, their scores and their alignment.

    Attributes:
        source: The source text.
        target: The translation.
        source_tokens: The pieces of the source, the end token last.
        tokens: The pieces of the translation, likewise.
        scores: The log-probability of each token, given the source and the tokens before it.
        alignment: For each token the place, from 0, of the source token with the most weight.
        weights: Float32 `[T, S]`: the attention of each token to each source token.
        truncated: Whether a text was cut to the longest that the model reads.
    """

    source: str
    target: str
    source_tokens: list[str]
    tokens: list[str]
    scores: list[float]
    alignment: list[int]
    weights: np.ndarray
    truncated: bool

    @property
    def log_probability(self) -> float:
        """The log-probability of the translation, its end token included."""
        return sum(self.scores)

    @functools.cached_property
    def characters(self) -> list[tuple[Span, Span]]:
        """The alignment as spans of characters: of the source and of the target, by token.

        Tokens that stand for no character, or are aligned to one that does not, have none.
        """
        sources = find_spans(self.source, self.source_tokens)
        targets = find_spans(self.target, self.tokens)
        links = zip(self.alignment, targets, strict=True)
        pairs = [(sources[place], span) for place, span in links]
        return [pair for pair in pairs if all(start < end for start, end in pair)]

    @functools.cached_property
    def words(self) -> list[tuple[int, int]]:
        """The alignment as places of words, of the source and of the target, ascending.

        Words are what spaces separate. Two are aligned if some of their tokens are.
        """
        first, second = (
            [start for start, _ in find_words(text)] for text in (self.source, self.target)
        )
        return sorted(
            {
                (bisect.bisect(first, source) - 1, bisect.bisect(second, target) - 1)
                for (source, _), (target, _) in self.characters
            }
        )

    @property
    def pharaoh(self) -> str:
        """`words` as `0-0 1-2`, a source word and a target word each, counted from 0."""
        return " ".join(f"{source}-{target}" for source, target in self.words)


def annotate_texts(
    engine: "Engine", sources: Sequence[str], targets: Sequence[str], *, tag: str | None = None
) -> list[Annotation]:
    """Annotates translations at once, or in batches of the size that an export is fixed to.

    Args:
        engine: The engine; one with the signature `annotate`.
        sources: The source texts.
        targets: Their translations, as many.
        tag: A symbol that the model reads before each source; None for none.

    Raises:
        InputError: The engine has no such signature, the numbers differ, or one is no string.
        TypeError: `sources` or `targets` is a single string.
    """
    description = engine.description
    pairs = [to_strings(texts) for texts in (sources, targets)]
    if len(pairs[0]) != len(pairs[1]):
        raise InputError(
            "sources and targets must be as many; "
            f"got {len(pairs[0])} sources and {len(pairs[1])} targets."
        )
    if "annotate" not in description.signatures:
        raise InputError(
            "To align a translation or score its tokens, a model needs the signature annotate; "
            f"this one has {', '.join(description.signatures)}."
        )
    size = description.batch_size or max(len(pairs[0]), 1)
    limits = description.max_source_length, description.max_target_length
    annotations: list[Annotation] = []
    for start in range(0, len(pairs[0]), size):
        chosen = [texts[start : start + size] for texts in pairs]
        padding = [""] * (size - len(chosen[0]) if description.batch_size else 0)
        read = [add_tag(text, tag) for text in chosen[0]]
        source, target = (
            cut_texts([*texts, *padding], limit)
            for texts, limit in zip((read, chosen[1]), limits, strict=True)
        )
        outputs = engine.run_inputs("annotate", source=source, target=target)
        annotations += read_annotations(chosen[0], chosen[1], outputs)
    return annotations


def to_strings(texts: Sequence[str]) -> list[str]:
    """Returns texts as strings; bytes that are not UTF-8 become replacement characters."""
    given: list[str | bytes] = [*to_texts(texts)]
    return [text if isinstance(text, str) else text.decode(errors="replace") for text in given]


def read_annotations(
    sources: Sequence[str], targets: Sequence[str], outputs: Mapping[str, np.ndarray]
) -> list[Annotation]:
    """Turns the outputs of the signature `annotate` into annotations.

    Args:
        sources: The source texts.
        targets: Their translations.
        outputs: The signature's outputs, for at least as many pairs.
    """
    annotations = []
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        source_tokens, tokens = (
            [piece.decode() for piece in outputs[name][row] if piece]
            for name in ("source_tokens", "tokens")
        )
        length = len(tokens)
        annotations.append(
            Annotation(
                source=source,
                target=target,
                source_tokens=source_tokens,
                tokens=tokens,
                scores=outputs["log_probability"][row, :length].tolist(),
                alignment=outputs["alignment"][row, :length].tolist(),
                weights=outputs["weights"][row, :length, : len(source_tokens)],
                truncated=bool(outputs["truncated"][row]),
            )
        )
    return annotations
