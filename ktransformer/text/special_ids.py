"""The ids of a tokenizer's special tokens."""

from typing import NamedTuple

import numpy as np

from ktransformer.errors import InputError

PAD_ID, UNKNOWN_ID, START_ID, END_ID = 0, 1, 2, 3  # Of every tokenizer that `train` makes.


class SpecialIds(NamedTuple):
    """The ids of a tokenizer's special tokens; by default those that `Tokenizer.train` gives.

    Attributes:
        start: Fed to a decoder at position 0.
        end: Ends every text.
        pad: Fills a batch. The model's `pad_id` is the same.
        unknown: Stands for characters that the tokenizer does not know.
        mask: Stands for a token that is to be predicted; None without one.
    """

    start: int = START_ID
    end: int = END_ID
    pad: int = PAD_ID
    unknown: int = UNKNOWN_ID
    mask: int | None = None

    def checked(self, vocabulary_size: int) -> "SpecialIds":
        """Returns the ids as they are.

        Raises:
            InputError: One of them is not in `[0, vocabulary_size)`, or two are equal. A decoder
                whose start is padding would not see its first position.
        """
        ids = {name: value for name, value in self._asdict().items() if value is not None}
        inside = all(0 <= value < vocabulary_size for value in ids.values())
        if not inside or len(set(ids.values())) < len(ids):
            shown = ", ".join(f"{name} {value}" for name, value in ids.items())
            raise InputError(
                "The special ids of a tokenizer must be different ids from 0 to "
                f"{vocabulary_size - 1}; got {shown}."
            )
        return self

    def ordinary(self, vocabulary_size: int) -> np.ndarray:
        """Returns the other ids, ascending: int32 `[N]`."""
        special = [value for value in self if value is not None]
        return np.setdiff1d(np.arange(vocabulary_size, dtype=np.int32), special)


DEFAULT_SPECIAL_IDS = SpecialIds()
