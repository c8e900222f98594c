"""A shortlist: the part of the vocabulary that a batch of sources is likely to need."""

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text import BaseTokenizer, ParallelFiles, survey_files
from ktransformer.text.lexicon import Lexicon, train_lexicon
from ktransformer.text.special_ids import SpecialIds

_ALWAYS = 1e9  # More votes than a batch has tokens.


class Shortlist:
    """Chooses the target pieces that a search may use, in the graph.

    The special ids and the lexicon's frequent pieces are always among them. Of the others, the
    sources' tokens vote for their likely translations, for the k-th best with a weight of 1 / k.
    All sources of a batch have one shortlist: a text may be translated otherwise in another batch.

    Args:
        lexicon: The likely translations of each source piece.
        size: C, the number of pieces.

    Attributes:
        special_ids: The places of the special ids among the chosen ids.
        sizes: The numbers of ids of the source and of the target.

    Raises:
        InputError: `size` has no room for the special ids and the frequent pieces, or the
            vocabulary is no larger than it.
    """

    def __init__(self, lexicon: Lexicon, size: int) -> None:
        rows, best = lexicon.translations.shape
        vocabulary_size = lexicon.vocabulary_size or rows
        self.sizes = (rows, vocabulary_size)
        special = sorted(lexicon.special_ids[:4])
        least = len(special) + len(lexicon.frequent)
        if not least <= size < vocabulary_size:
            raise InputError(
                f"A shortlist must have at least {least} pieces, the frequent ones and the special "
                f"ones, and fewer than the vocabulary's {vocabulary_size}; got {size}."
            )
        self.lexicon = lexicon
        self.size = size
        self._weights = (1 / np.arange(1, best + 1)).astype(np.float32)
        self._votes = np.zeros(vocabulary_size, np.float32)
        self._votes[lexicon.frequent] = _ALWAYS
        self._votes[special] = -_ALWAYS  # They are chosen apart from the others.
        self._special = special
        # The chosen ids begin with the special ones.
        self.special_ids = SpecialIds(*map(special.index, lexicon.special_ids[:4]))

    def check(self, special_ids: SpecialIds, sizes: tuple[int, int]) -> None:
        """Checks that the lexicon was trained for a model.

        Args:
            special_ids: Those of the target's tokenizer.
            sizes: The model's numbers of ids, of the source and of the target.

        Raises:
            InputError: It was not.
        """
        if self.sizes != sizes:
            raise InputError(
                f"The lexicon of the shortlist must have the model's {sizes[0]} source and "
                f"{sizes[1]} target ids; got {self.sizes[0]} and {self.sizes[1]}."
            )
        if self.lexicon.special_ids != special_ids:
            raise InputError(
                f"The lexicon of the shortlist must have the tokenizer's {special_ids}; "
                f"got {self.lexicon.special_ids}."
            )

    def choose(self, source: tf.Tensor) -> tf.Tensor:
        """Returns the ids for sources `[B, S]`: int32 `[C]`.

        The special ids are the first, in ascending order; the others follow, ascending, too.
        """
        likely = tf.gather(tf.constant(self.lexicon.translations), source)  # [B, S, N]
        weights = tf.where(likely == self.lexicon.special_ids.pad, 0.0, self._weights)
        votes = tf.math.unsorted_segment_sum(
            tf.reshape(weights, [-1]), tf.reshape(likely, [-1]), len(self._votes)
        )
        count = self.size - len(self._special)
        chosen = tf.math.top_k(votes + self._votes, count).indices
        return tf.concat([self._special, -tf.math.top_k(-chosen, count).values], axis=0)


def learn_shortlist(
    files: ParallelFiles,
    tokenizer: BaseTokenizer,
    size: int,
    *,
    max_pairs: int,
    target_tokenizer: BaseTokenizer | None = None,
) -> Shortlist:
    """Learns a shortlist from parallel text.

    Args:
        files: The text.
        tokenizer: The tokenizer of the source.
        size: Pieces to search in.
        max_pairs: Pairs to learn from; they are drawn evenly from a longer text.
        target_tokenizer: The tokenizer of the target; None if it is the same.

    Raises:
        InputError: There is no pair, or as `Shortlist`.
    """
    text = survey_files(files, sample_pairs=max_pairs).sample
    target_tokenizer = target_tokenizer or tokenizer
    lexicon = train_lexicon(
        tokenizer.encode_lines(text.sources),
        target_tokenizer.encode_lines(text.targets),
        target_tokenizer.vocabulary_size,
        special_ids=target_tokenizer.special_ids,
        source_vocabulary_size=tokenizer.vocabulary_size,
        source_special_ids=tokenizer.special_ids,
    )
    return Shortlist(lexicon, size)
