"""Tokenizers with special ids of their own: of one SentencePiece model, and of a table."""

import io

import sentencepiece

from ktransformer.text import Tokenizer
from tests.small_run import number_pairs

PAIRS = number_pairs(300, seed=1)  # Number words, and the same in digits.
SPECIAL = {"unk_id": 0, "bos_id": 7, "eos_id": 11, "pad_id": 20}


def train_pieces(lines, vocabulary_size=60, **options) -> bytes:
    """Trains a SentencePiece model as another program would."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        minloglevel=3,
        **options,
    )
    return model.getvalue()


def make_tokenizer() -> Tokenizer:
    """A tokenizer of both sides whose special ids are scattered."""
    lines = [line for pair in PAIRS for line in pair]
    return Tokenizer(train_pieces(lines, **SPECIAL))


def make_sides() -> tuple[bytes, bytes, dict[str, int]]:
    """Two SentencePiece models and one table, as OPUS-MT has them: its padding is the last."""
    sources, targets = zip(*PAIRS, strict=True)
    models = train_pieces(sources, character_coverage=1.0), train_pieces(targets, 20)
    table = {"</s>": 0, "<unk>": 1}
    for model in models:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [processor.id_to_piece(i) for i in range(3, processor.vocab_size())]
        for piece in sorted(pieces, reverse=True):
            table.setdefault(piece, len(table))
    table["<pad>"] = len(table)
    return *models, table
