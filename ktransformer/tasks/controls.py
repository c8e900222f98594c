"""The options of a request that steers the search, checked, as inputs of the signature."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ktransformer.decoding.rules.rule import checked
from ktransformer.errors import InputError
from ktransformer.numbers import to_integer
from ktransformer.tasks.inputs import to_texts

MOST_DRAWN = 64
"""The most samples, or alternatives, of a text."""

_SAMPLING = ("top_k", "top_p", "min_p", "seed")
_INTEGERS = ("min_length", "max_length", "no_repeat_ngram_size", "top_k")
_NUMBERS = ("length_penalty", "coverage_penalty", "repetition_penalty", "top_p", "min_p")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Controls:
    """What a request may ask of a translator's `controlled` signature; None is the export's own.

    Args:
        prefix: The beginning of each translation: one for all texts, or one for each. It comes back
            byte for byte. White space at its end ends a word; without it the model chooses whether
            the word goes on.
        suppress: Words that are not to be written. The pieces that spell a word after a space never
            follow each other; a word in another spelling is another word.
        n_best: K, the number of translations of each text: of a search at most the beam size, of
            sampling and of alternatives at most 64.
        alternatives: Whether the K translations differ in the first token after the prefix: the K
            most probable ones, each continued as is best.
        length_penalty: Exponent of the length in the score, at least 0.
        min_length: The fewest tokens after the prefix, the end token included.
        max_length: The most, likewise.
        repetition_penalty: Above 0; see `decoding.RepetitionPenalty`.
        no_repeat_ngram_size: See `decoding.NoRepeatedNgrams`; 0 for no rule.
        coverage_penalty: At least 0; see `decoding.Coverage`.
        temperature: Above 0 draws the translations; see `decoding.Temperature`. 0 searches.
        top_k: Draws from so many tokens; 0 for all.
        top_p: Draws from the most probable tokens that reach this probability, in (0, 1].
        min_p: Draws from tokens that have at least this share of the best one's probability.
        seed: The same seed gives the same texts; any integer, of which 64 bits count; None for
            0.
        annotate: Whether the tokens are scored and aligned, too; see `annotations.annotate`.

    Raises:
        InputError: An option is of another type or out of its range, one of sampling is given
            without a temperature, or alternatives with one.
    """

    prefix: str | Sequence[str] = ""
    suppress: Sequence[str] = ()
    n_best: int = 1
    alternatives: bool = False
    length_penalty: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    coverage_penalty: float | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    annotate: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.suppress, str):
            raise InputError(f"suppress must be a list of words; got {self.suppress!r}.")
        object.__setattr__(self, "suppress", tuple(to_texts(self.suppress)))
        if isinstance(self.prefix, (str, bytes)):
            to_texts([self.prefix])
        else:
            object.__setattr__(self, "prefix", tuple(to_texts(self.prefix)))
        to_integer("n_best", self.n_best, least=1)
        for name in ("alternatives", "annotate"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise InputError(f"{name} must be True or False; got {getattr(self, name)!r}.")
        checked("temperature", self.temperature)
        if self.seed is not None:
            to_integer("seed", self.seed)
        ranges: dict[str, dict[str, Any]] = {
            "max_length": {"least": 1},
            "repetition_penalty": {"open_below": True},
            "top_p": {"most": 1, "open_below": True},
            "min_p": {"most": 1},
        }
        for name in (*_INTEGERS, *_NUMBERS):
            value = getattr(self, name)
            if value is not None:
                checked(name, value, integer=name in _INTEGERS, **ranges.get(name, {}))
        given = [name for name in _SAMPLING if getattr(self, name) is not None]
        if given and not self.temperature:
            raise InputError(
                f"{given[0]} is for sampling, which needs a temperature above 0; "
                f"got temperature={self.temperature}."
            )
        if self.alternatives and self.temperature:
            raise InputError(
                "alternatives are searched for, not drawn: temperature must be 0 with them; "
                f"got temperature={self.temperature}."
            )

    def prefixes(self, count: int) -> list[Any]:
        """Returns a prefix for each of `count` texts.

        Raises:
            InputError: There are as many prefixes as neither one nor `count`.
        """
        if isinstance(self.prefix, (str, bytes)):
            return [self.prefix] * count
        found = list(self.prefix)
        if len(found) != count:
            raise InputError(
                f"prefix must be one string, or one for each of the {count} texts; "
                f"got {len(found)}."
            )
        return found

    def check_n_best(self, beam_size: int) -> None:
        """Checks that there are so many translations.

        Raises:
            InputError: `n_best` is above the beam size, of a search, or above `MOST_DRAWN`.
        """
        wide = self.alternatives or self.temperature > 0
        most = MOST_DRAWN if wide else beam_size
        if self.n_best > most:
            limit = "" if wide else ", the beam size"
            raise InputError(f"n_best must be at most {most}{limit}; got {self.n_best}.")

    def check_copy(self, copy: Sequence[str]) -> None:
        """Checks that no prefix is given to a model that copies spans.

        Args:
            copy: The setting `copy` of the model.

        Raises:
            InputError: One is.
        """
        prefixes = [self.prefix] if isinstance(self.prefix, (str, bytes)) else self.prefix
        if copy and any(prefixes):
            raise InputError(
                "A prefix must be empty where the model copies spans, which might have to go into "
                f"it; got copy={','.join(copy)}. A run opened with copy=() takes one."
            )

    def to_inputs(
        self, texts: np.ndarray, prefixes: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Returns the inputs of `controlled` for texts, an array `[B]` of UTF-8.

        Args:
            texts: The texts.
            prefixes: B of them; None for those of the options.

        Raises:
            InputError: See `prefixes`.
        """
        if prefixes is None:
            prefixes = self.prefixes(len(texts))
        scalars: dict[str, Any] = {
            "n_best": np.int32(min(self.n_best, 2**31 - 1)),
            "alternatives": np.int32(self.alternatives),
            "annotate": np.int32(self.annotate),
            "temperature": np.float32(self.temperature),
            "seed": np.int64((int(self.seed or 0) + 2**63) % 2**64 - 2**63),
        }
        for name in _INTEGERS:
            scalars[name] = np.int32(_or_own(getattr(self, name), most=2**31 - 1))
        for name in _NUMBERS:
            scalars[name] = np.float32(_or_own(getattr(self, name), most=1e30))
        return {
            "texts": texts,
            "prefix": np.array([_encode(each) for each in prefixes], dtype=object),
            # LiteRT takes no input without elements.
            "suppress": np.array([_encode(word) for word in self.suppress] or [b""], dtype=object),
            **{name: np.asarray(value) for name, value in scalars.items()},
        }


STEERED = Controls(min_length=4, repetition_penalty=1.2, no_repeat_ngram_size=3)
"""Options with which `verify` compares an export, beside none."""


def _encode(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _or_own(value: Any, *, most: float) -> Any:
    return -1 if value is None else min(value, most)
