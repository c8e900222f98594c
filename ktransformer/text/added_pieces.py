"""Adds pieces to the SentencePiece model of a trained run: words and symbols."""

import dataclasses
from collections.abc import Mapping, Sequence

from ktransformer.errors import InputError
from ktransformer.text.piece_model import (
    MASK,
    SPACE,
    add_symbols,
    check_symbols,
    find_symbols,
    find_unlisted,
    lite_obstacle,
    open_processor,
    piece_schema,
    select_pieces,
)

_SCORE_MARGIN = 0.1  # Of an added word over its segmentation: far above rounding.


@dataclasses.dataclass(frozen=True)
class Extension:
    """A model with more pieces.

    Attributes:
        model: The serialized model.
        origins: For each of its ids the ids of the pieces that a text had there before: its own old
            id, or those of the pieces that it replaces.
    """

    model: bytes
    origins: list[list[int]]


def add_pieces(
    model: bytes,
    *,
    words: Sequence[str] = (),
    symbols: Sequence[str] = (),
    tags: Sequence[str] = (),
) -> Extension:
    """Adds whole words and symbols to a unigram model.

    The words come behind the last piece that is no symbol, the new symbols behind the old ones, and
    the mask stays the last of them. All other pieces keep their ids.

    A word gets a score just above its best segmentation, so that a text with this word always
    contains the new piece; it is at least the lowest score, on which that of unknown characters
    depends.

    Args:
        model: A model for which `lite_obstacle` is None, with all pieces in its table of ids.
        words: Words that are no pieces yet, each once.
        symbols: Symbols that a translation may contain; see `Tokenizer.train`.
        tags: Symbols that only sources contain.

    Raises:
        InputError: A word is empty, has a space or a line end in it, is a piece already or is there
            twice; a symbol is there already or does not fit (see `check_symbols`); or the model is
            of another kind.
    """
    if lite_obstacle(model) is not None or find_unlisted(model) is not None:
        reason = lite_obstacle(model) or "it has pieces without an id"
        raise InputError(f"Pieces cannot be added to the tokenizer: {reason}.")
    processor, old = open_processor(model), find_symbols(model)
    size = processor.vocab_size() - 2 * len(old)
    with_words = _add_words(select_pieces(model, range(size)), words)
    names = [symbol for symbol in old if symbol != MASK] + [*symbols, *tags]
    names += [MASK] if MASK in old else []
    check_symbols(with_words, names)
    for symbol in (*symbols, *tags):
        ids = map(processor.piece_to_id, (symbol, SPACE + symbol))
        if any(processor.id_to_piece(i) in (symbol, SPACE + symbol) for i in ids):
            raise InputError(f"A symbol to add must be no piece yet; got {symbol!r}.")
    end = processor.vocab_size() - len(old)

    def before(text: str) -> list[int]:
        ids = [i - len(old) if i >= end else i for i in processor.encode(text)]
        return [old[text]] if text in old else ids

    origins = [[i] for i in range(size)]
    origins += [before(word) for word in words]
    origins += 2 * [before(symbol) for symbol in names]
    extended = add_symbols(with_words, names, tags) if names else with_words
    return Extension(extended, origins)


def _add_words(model: bytes, words: Sequence[str]) -> bytes:
    """Adds words behind the last piece of a model without symbols."""
    before = open_processor(model)
    pieces = [before.normalize(word) for word in words]
    for word, piece in zip(words, pieces, strict=True):
        if len(piece) < 2 or SPACE in piece[1:]:
            raise InputError(f"A piece to add must be one word; got {word!r}.")
        if before.id_to_piece(before.piece_to_id(piece)) == piece or pieces.count(piece) > 1:
            raise InputError(f"A piece to add must be new and given once; got {word!r}.")
    proto = piece_schema().ModelProto.FromString(model)
    lowest = min(each.score for each in proto.pieces if each.type == proto.SentencePiece.NORMAL)
    scores: dict[str, float] = {}
    for length in sorted({len(piece) for piece in pieces}):  # A piece may contain shorter ones.
        processor = open_processor(_with_pieces(model, scores))
        for piece in (piece for piece in pieces if len(piece) == length):
            ids = processor.encode(piece.replace(SPACE, " "))
            known = processor.unk_id() not in ids
            best = sum(processor.get_score(ids)) + _SCORE_MARGIN if known else lowest
            scores[piece] = max(best, lowest)
    return _with_pieces(model, {piece: scores[piece] for piece in pieces})


def _with_pieces(model: bytes, scores: Mapping[str, float]) -> bytes:
    """Returns a model with pieces of some scores behind its last."""
    proto = piece_schema().ModelProto.FromString(model)
    for piece, score in scores.items():
        proto.pieces.add(piece=piece, score=score)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    extended: bytes = proto.SerializeToString()
    return extended
