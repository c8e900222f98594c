"""SentencePiece models whose pieces have the ids of a table, such as Marian's `vocab.json`."""

from collections.abc import Mapping
from typing import Any

from ktransformer.errors import InputError
from ktransformer.text.piece_model import (
    SPACE,
    UNKNOWN_PENALTY,
    UNLISTED,
    is_language,
    piece_schema,
)


def renumber_pieces(
    model: bytes, table: Mapping[str, int], *, start_piece: str | None = None
) -> bytes:
    """Returns a SentencePiece model of the same segmentations, with the ids of a table.

    Two models over one table make the tokenizers of a translator's two sides. A piece of the table
    that the model lacks, such as one of the other side, is decoded like all others. It is encoded
    only where characters that the model does not know spell it; see `Tokenizer.encode`. A piece
    that the table lacks keeps its part in every segmentation and counts as unknown: it stands
    behind `UNLISTED`, whose score marks the pieces of the table that the model lacks. A language
    token `>>xx<<` of the table is one piece, with a space before it.

    Args:
        model: A serialized SentencePiece model.
        table: The id of each piece, from 0 to the last without a gap. It must hold the model's
            padding, unknown and end pieces (`<pad>`, `<unk>` and `</s>`); a start piece that it
            lacks becomes one more id, because the start must differ from the padding.
        start_piece: The start piece; None for the model's own, `<s>`.

    Raises:
        InputError: The ids have gaps, a special piece is missing, or the model is no unigram model.
    """
    schema = piece_schema()
    proto = schema.ModelProto.FromString(model)
    trainer, types = proto.trainer_spec, schema.ModelProto.SentencePiece
    if trainer.model_type != schema.TrainerSpec.UNIGRAM:
        kind = schema.TrainerSpec.ModelType.Name(trainer.model_type)
        raise InputError(f"Only a unigram tokenizer can be renumbered; this one's kind is {kind}.")
    trainer.bos_piece = start_piece or trainer.bos_piece
    texts = _in_order(table)
    missing = [
        name
        for name in (trainer.pad_piece, trainer.unk_piece, trainer.eos_piece)
        if name not in table
    ]
    if missing:
        raise InputError(f"The table of ids must hold {', '.join(missing)}.")
    if trainer.bos_piece not in table:
        texts.append(trainer.bos_piece)
    pieces = _listed_pieces(proto, texts)
    spelled = (types.NORMAL, types.USER_DEFINED, types.BYTE)
    unlisted = [p for p in proto.pieces if p.piece not in table and p.type in spelled]
    marker = types(piece=UNLISTED, type=types.CONTROL, score=_foreign_score(proto))
    if unlisted or any(piece.score == marker.score for piece in pieces):
        unlisted.insert(0, marker)
    del proto.pieces[:]
    proto.pieces.extend([*pieces, *unlisted])
    trainer.vocab_size = len(proto.pieces)
    trainer.pad_id, trainer.unk_id = texts.index(trainer.pad_piece), texts.index(trainer.unk_piece)
    trainer.bos_id, trainer.eos_id = texts.index(trainer.bos_piece), texts.index(trainer.eos_piece)
    serialized: bytes = proto.SerializeToString()
    return serialized


def _listed_pieces(proto: Any, texts: list[str]) -> list[Any]:
    """Returns the pieces of the table's texts, in their order."""
    trainer, types = proto.trainer_spec, proto.SentencePiece
    special = {
        trainer.pad_piece: types.CONTROL,
        trainer.unk_piece: types.UNKNOWN,
        trainer.bos_piece: types.CONTROL,
        trainer.eos_piece: types.CONTROL,
    }
    own = {piece.piece: piece for piece in proto.pieces}
    known = {text for text in own if len(text) == 1}
    foreign = _foreign_score(proto)
    # More than the neighbouring pieces can lose.
    language = -2 * trainer.max_sentencepiece_length * foreign

    def piece(text: str) -> Any:
        if text in special:
            return types(piece=text, type=special[text])
        if is_language(text) and SPACE + text not in own:
            return types(piece=SPACE + text, score=language, type=types.NORMAL)
        if text in own:
            return own[text]
        # Control pieces match no text.
        spelled = not trainer.byte_fallback and known.isdisjoint(text)
        kind = types.NORMAL if spelled else types.CONTROL
        return types(piece=text, score=foreign, type=kind)

    return [piece(text) for text in texts]


def _foreign_score(proto: Any) -> float:
    """Returns the score of the table's pieces that the model lacks: below all of its own."""
    normal = proto.SentencePiece.NORMAL
    lowest = min(piece.score for piece in proto.pieces if piece.type == normal)
    return float(lowest - UNKNOWN_PENALTY)


def _in_order(table: Mapping[str, int]) -> list[str]:
    """Returns the pieces of a table in the order of their ids."""
    texts = sorted(table, key=table.__getitem__)
    if [table[text] for text in texts] != list(range(len(texts))):
        raise InputError(
            f"The ids of a table of {len(texts)} pieces must be 0 to {len(texts) - 1}, each once."
        )
    return texts
