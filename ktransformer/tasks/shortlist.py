"""A shortlist: the part of the vocabulary that a batch of sources is likely to need."""

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text import END_ID, PAD_ID, ParallelFiles, Tokenizer, survey_files
from ktransformer.text.lexicon import Lexicon, train_lexicon

_ALWAYS = 1e9  # More votes than a batch has tokens.


class Shortlist:
    """Chooses the target pieces that a search may use, in the graph.

    The special ids and the lexicon's frequent pieces are always among them. Of the others, the
    sources' tokens vote for their likely translations, for the k-th best with a weight of 1 / k.
    All sources of a batch have one shortlist: a text may be translated otherwise in another batch.

    Args:
        lexicon: The likely translations of each source piece.
        size: C, the number of pieces.

    Raises:
        InputError: `size` has no room for the special ids and the frequent pieces, or the
            vocabulary is no larger than it.
    """

    def __init__(self, lexicon: Lexicon, size: int) -> None:
        vocabulary_size, best = lexicon.translations.shape
        least = END_ID + 1 + len(lexicon.frequent)
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
        self._votes[: END_ID + 1] = _ALWAYS

    def choose(self, source: tf.Tensor) -> tf.Tensor:
        """Returns the ids for sources `[B, S]`: int32 `[C]`, ascending, the special ones first."""
        likely = tf.gather(tf.constant(self.lexicon.translations), source)  # [B, S, N]
        weights = tf.where(likely == PAD_ID, 0.0, self._weights)
        votes = tf.math.unsorted_segment_sum(
            tf.reshape(weights, [-1]), tf.reshape(likely, [-1]), len(self._votes)
        )
        chosen = tf.math.top_k(votes + self._votes, self.size).indices
        return -tf.math.top_k(-chosen, self.size).values


def learn_shortlist(
    files: ParallelFiles, tokenizer: Tokenizer, size: int, *, max_pairs: int
) -> Shortlist:
    """Learns a shortlist from parallel text.

    Args:
        files: The text.
        tokenizer: The tokenizer of the model.
        size: Pieces to search in.
        max_pairs: Pairs to learn from; they are drawn evenly from a longer text.

    Raises:
        InputError: There is no pair, or as `Shortlist`.
    """
    text = survey_files(files, sample_pairs=max_pairs).sample
    sources, targets = map(tokenizer.encode_lines, (text.sources, text.targets))
    return Shortlist(train_lexicon(sources, targets, tokenizer.vocabulary_size), size)
