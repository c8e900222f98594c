"""SentencePiece models whose pieces have the ids of a table, such as Marian's `vocab.json`."""

from collections.abc import Mapping
from typing import Any

from ktransformer.errors import InputError
from ktransformer.text.piece_model import UNKNOWN_PENALTY, UNLISTED, piece_schema


def renumber_pieces(model: bytes, table: Mapping[str, int]) -> bytes:
    """Returns a SentencePiece model of the same segmentations, with the ids of a table.

    Two models over one table make the tokenizers of a translator's two sides. Pieces of the table
    that the model lacks, such as those of the other side, get scores so low that only characters
    unknown to the model are encoded with them; they are decoded like all others. Pieces that the
    table lacks keep their part in every segmentation and count as unknown: they stand behind
    `UNLISTED`.

    Args:
        model: A serialized SentencePiece model.
        table: The id of each piece, from 0 to the last without a gap. It must hold the model's
            padding, unknown and end pieces (`<pad>`, `<unk>` and `</s>`); a start piece (`<s>`)
            that it lacks becomes one more id, because the start must differ from the padding.

    Raises:
        InputError: The ids have gaps, a special piece is missing, or the model is no unigram model.
    """
    schema = piece_schema()
    proto = schema.ModelProto.FromString(model)
    trainer, types = proto.trainer_spec, schema.ModelProto.SentencePiece
    if trainer.model_type != schema.TrainerSpec.UNIGRAM:
        kind = schema.TrainerSpec.ModelType.Name(trainer.model_type)
        raise InputError(f"Only a unigram tokenizer can be renumbered; this one's kind is {kind}.")
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
    own = {piece.piece: piece for piece in proto.pieces}
    lowest = min(piece.score for piece in proto.pieces if piece.type == types.NORMAL)
    special = {
        trainer.pad_piece: types.CONTROL,
        trainer.unk_piece: types.UNKNOWN,
        trainer.bos_piece: types.CONTROL,
        trainer.eos_piece: types.CONTROL,
    }

    def piece(text: str) -> Any:
        if text in special:
            return types(piece=text, type=special[text])
        # Below any way to spell the same characters with the model's own pieces.
        score = (lowest - UNKNOWN_PENALTY) * len(text) + 0.01
        return own.get(text) or types(piece=text, score=score, type=types.NORMAL)

    pieces = [piece(text) for text in texts]
    spelled = (types.NORMAL, types.USER_DEFINED, types.BYTE)
    unlisted = [p for p in proto.pieces if p.piece not in table and p.type in spelled]
    if unlisted:
        pieces += [types(piece=UNLISTED, type=types.CONTROL), *unlisted]
    renumbered = schema.ModelProto.FromString(model)
    del renumbered.pieces[:]
    renumbered.pieces.extend(pieces)
    trainer = renumbered.trainer_spec
    trainer.vocab_size = len(pieces)
    trainer.pad_id, trainer.unk_id = texts.index(trainer.pad_piece), texts.index(trainer.unk_piece)
    trainer.bos_id, trainer.eos_id = texts.index(trainer.bos_piece), texts.index(trainer.eos_piece)
    serialized: bytes = renumbered.SerializeToString()
    return serialized


def _in_order(table: Mapping[str, int]) -> list[str]:
    """Returns the pieces of a table in the order of their ids."""
    texts = sorted(table, key=table.__getitem__)
    if [table[text] for text in texts] != list(range(len(texts))):
        raise InputError(
            f"The ids of a table of {len(texts)} pieces must be 0 to {len(texts) - 1}, each once."
        )
    return texts
