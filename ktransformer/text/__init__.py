"""Tokenizers, parallel corpora, and batches of them for training.

The modules that need only NumPy, such as `TokenBatches`, are imported without TensorFlow.
"""

from typing import TYPE_CHECKING

from ktransformer.lazy import lazy_names
from ktransformer.runtime import supported_backend as supported_backend
from ktransformer.text.special_ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID, SpecialIds

if TYPE_CHECKING:
    from ktransformer.text.base_tokenizer import BaseTokenizer, register_tokenizer
    from ktransformer.text.batches import TokenBatches
    from ktransformer.text.cleaning import Cleaner, Cleaning
    from ktransformer.text.corpus import (
        PairFiles,
        ParallelFiles,
        ParallelText,
        open_parallel,
        read_aligned,
        read_lines,
        read_parallel,
        read_tsv,
    )
    from ktransformer.text.masked_batches import MaskedBatches
    from ktransformer.text.mixed_batches import MixedBatches
    from ktransformer.text.opening import load_tokenizer
    from ktransformer.text.packed_batches import PackedBatches
    from ktransformer.text.piece_model import MASK
    from ktransformer.text.sampling import SubwordSampler
    from ktransformer.text.shard_writing import write_shards
    from ktransformer.text.sharded_batches import ShardedBatches
    from ktransformer.text.shards import Shards
    from ktransformer.text.survey import Survey, survey_files
    from ktransformer.text.tokenizer import Tokenizer
    from ktransformer.text.word_pieces import WordPieceTokenizer

__all__ = [
    "END_ID",
    "MASK",
    "PAD_ID",
    "START_ID",
    "UNKNOWN_ID",
    "BaseTokenizer",
    "Cleaner",
    "Cleaning",
    "MaskedBatches",
    "MixedBatches",
    "PackedBatches",
    "PairFiles",
    "ParallelFiles",
    "ParallelText",
    "ShardedBatches",
    "Shards",
    "SpecialIds",
    "SubwordSampler",
    "Survey",
    "TokenBatches",
    "Tokenizer",
    "WordPieceTokenizer",
    "load_tokenizer",
    "open_parallel",
    "read_aligned",
    "read_lines",
    "read_parallel",
    "read_tsv",
    "register_tokenizer",
    "survey_files",
    "write_shards",
]

if not TYPE_CHECKING:  # A type checker would take it to have any name.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "BaseTokenizer": "base_tokenizer",
            "register_tokenizer": "base_tokenizer",
            "TokenBatches": "batches",
            "Cleaner": "cleaning",
            "Cleaning": "cleaning",
            "PairFiles": "corpus",
            "ParallelFiles": "corpus",
            "ParallelText": "corpus",
            "open_parallel": "corpus",
            "read_aligned": "corpus",
            "read_lines": "corpus",
            "read_parallel": "corpus",
            "read_tsv": "corpus",
            "MaskedBatches": "masked_batches",
            "MixedBatches": "mixed_batches",
            "PackedBatches": "packed_batches",
            "load_tokenizer": "opening",
            "MASK": "piece_model",
            "SubwordSampler": "sampling",
            "ShardedBatches": "sharded_batches",
            "Shards": "shards",
            "write_shards": "shard_writing",
            "Survey": "survey",
            "survey_files": "survey",
            "Tokenizer": "tokenizer",
            "WordPieceTokenizer": "word_pieces",
        },
    )
