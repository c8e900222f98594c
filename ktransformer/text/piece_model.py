"""Reads and edits serialized SentencePiece models: symbols, single pieces, their properties."""

import itertools
from collections.abc import Sequence
from typing import Any

from ktransformer.errors import InputError

MASK = "<mask>"
"""The mask token as it is written in a text."""
UNLISTED = "<unlisted>"
"""A control piece behind the last id of a table; the pieces behind it count as unknown.

Its score is that of the table's pieces which the SentencePiece model itself lacks; 0 where they are
not marked, as in models of older versions.
"""
NORMALIZATION = "nmt_nfkc"
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # Marks a leading space in a piece.
UNKNOWN_PENALTY = 10  # How far below the lowest piece SentencePiece scores an unknown character.

_LONGEST_SYMBOL = 64  # Characters: as many as are encoded for each token that a text may have.


def add_symbols(model: bytes, symbols: Sequence[str], tags: Sequence[str] = ()) -> bytes:
    """Adds symbols behind a model's last piece: each once with a leading space, and once without.

    They are normal pieces, because LiteRT's tokenizer has no user-defined ones. Their score
    exceeds what the neighbouring pieces can lose, so the best segmentation always contains them.
    The pieces with a space come first, in the order of the symbols, then the others.

    Args:
        model: A unigram model without symbols.
        symbols: The symbols; the mask must be the last.
        tags: Those of them that only sources contain.
    """
    proto = piece_schema().ModelProto.FromString(model)
    lowest = min(piece.score for piece in proto.pieces) - UNKNOWN_PENALTY
    score = -2 * proto.trainer_spec.max_sentencepiece_length * lowest
    for text in [*(SPACE + symbol for symbol in symbols), *symbols]:
        proto.pieces.add(piece=text, score=score)
    proto.trainer_spec.control_symbols.extend(tags)
    added: bytes = proto.SerializeToString()
    return added


def remove_pieces_with(model: bytes, symbols: Sequence[str]) -> bytes:
    """Removes the pieces with a symbol in them that a training text with symbols may have given."""
    proto = piece_schema().ModelProto.FromString(model)
    normal = proto.SentencePiece.NORMAL
    kept = [
        piece
        for piece in proto.pieces
        if piece.type != normal or not any(symbol in piece.piece for symbol in symbols)
    ]
    del proto.pieces[:]
    proto.pieces.extend(kept)
    without: bytes = proto.SerializeToString()
    return without


def find_symbols(model: bytes) -> dict[str, int]:
    """Returns the id of each symbol that `add_symbols` added, the mask included.

    As many ids follow the last of them, those of the same symbols inside a word.
    """
    pieces = piece_schema().ModelProto.FromString(model).pieces
    # Trained scores are negative.
    end = (p.piece for p in reversed(pieces) if p.score > 0)
    symbols = [*itertools.takewhile(lambda text: not text.startswith(SPACE), end)][::-1]
    first = len(pieces) - 2 * len(symbols)
    before = [(piece.piece, piece.score > 0) for piece in pieces[first : first + len(symbols)]]
    if first < 0 or before != [(SPACE + symbol, True) for symbol in symbols]:
        return {}
    return {symbol: first + i for i, symbol in enumerate(symbols)}


def find_tags(model: bytes) -> tuple[str, ...]:
    """Returns the symbols that only sources contain."""
    return tuple(piece_schema().ModelProto.FromString(model).trainer_spec.control_symbols)


def check_symbols(model: bytes, symbols: Sequence[str]) -> None:
    """Checks that symbols can be added to a model.

    Raises:
        InputError: One is empty, has white space in it, does not survive the normalisation, is
            there twice, contains another, or is a special piece.
    """
    processor = open_processor(model)
    for symbol in symbols:
        if len(symbol) > _LONGEST_SYMBOL:
            raise InputError(
                f"A symbol must have at most {_LONGEST_SYMBOL} characters; got {len(symbol)}."
            )
        if not symbol or SPACE in symbol or processor.normalize(symbol) != SPACE + symbol:
            raise InputError(
                "A symbol must be text without white space that the tokenizer's normalisation "
                f"does not change; got {symbol!r}."
            )
        if sum(symbol in other for other in symbols) > 1:
            raise InputError(
                f"Symbols must be distinct, and none may contain another; got {symbol!r} in "
                f"{', '.join(map(repr, symbols))}."
            )
        i = processor.piece_to_id(symbol)
        if processor.id_to_piece(i) == symbol and (
            processor.is_control(i) or processor.is_unknown(i)
        ):
            raise InputError(f"A symbol must be no special piece; got {symbol!r}.")


def essential_pieces(model: bytes) -> list[int]:
    """Returns the ids that every smaller vocabulary must keep, ascending.

    These are the special and user-defined pieces, both pieces of each symbol, all single
    characters, so that every text of known characters can still be encoded, and the piece with the
    lowest score, from which SentencePiece derives the score of unknown characters.

    Pieces of a table that the model itself lacks (see `find_foreign`) are not among them; pieces
    that the table lacks are.

    Raises:
        InputError: The model's kind is not unigram.
    """
    schema = piece_schema()
    proto = schema.ModelProto.FromString(model)
    kind = schema.TrainerSpec.ModelType.Name(proto.trainer_spec.model_type)
    if kind != "UNIGRAM":  # BPE builds pieces from pieces that no text contains.
        raise InputError(f"Only a unigram tokenizer can lose pieces; this one's kind is {kind}.")
    normal, foreign = proto.SentencePiece.NORMAL, find_foreign(model)
    own = {i: piece for i, piece in enumerate(proto.pieces) if i not in foreign}
    ordinary = {
        i: p
        for i, p in own.items()
        if p.type == normal and not is_language(p.piece.removeprefix(SPACE))
    }
    essential = own.keys() - ordinary.keys()
    essential |= {i for i in ordinary if i >= (find_unlisted(model) or len(proto.pieces))}
    essential |= {i for i, piece in ordinary.items() if len(piece.piece) == 1}
    essential |= {min(ordinary, key=lambda i: ordinary[i].score)} if ordinary else set()
    symbols = find_symbols(model)
    first = len(proto.pieces) - 2 * len(symbols)
    return sorted(essential | {*range(first, len(proto.pieces))} if symbols else essential)


def select_pieces(model: bytes, ids: Sequence[int]) -> bytes:
    """Returns a model with only the given pieces, in the given order, with their scores."""
    proto = piece_schema().ModelProto.FromString(model)
    kept = [proto.pieces[i] for i in ids]
    smaller = piece_schema().ModelProto()
    smaller.trainer_spec.CopyFrom(proto.trainer_spec)
    smaller.normalizer_spec.CopyFrom(proto.normalizer_spec)
    if proto.HasField("denormalizer_spec"):
        smaller.denormalizer_spec.CopyFrom(proto.denormalizer_spec)
    smaller.pieces.extend(kept)
    smaller.trainer_spec.vocab_size = len(kept)
    serialized: bytes = smaller.SerializeToString()
    return serialized


def lite_obstacle(model: bytes) -> str | None:
    """Returns why a model's fast form may compute other ids, or None if it does not."""
    schema = piece_schema()
    proto = schema.ModelProto.FromString(model)
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    kind = schema.TrainerSpec.ModelType.Name(trainer.model_type)
    spaces = normalizer.add_dummy_prefix and normalizer.remove_extra_whitespaces
    spaces = spaces and normalizer.escape_whitespaces and not trainer.treat_whitespace_as_suffix
    types = proto.SentencePiece
    plain = {types.NORMAL, types.UNKNOWN, types.CONTROL}
    if kind != "UNIGRAM":
        return f"its kind is {kind}, not UNIGRAM"
    if trainer.byte_fallback:
        return "it spells unknown characters in bytes"
    if normalizer.name != NORMALIZATION:
        return f"its normalisation is {normalizer.name!r}, not {NORMALIZATION!r}"
    if not spaces:
        return "it does not treat spaces in SentencePiece's default way"
    if not {piece.type for piece in proto.pieces} <= plain:
        return "it has user-defined or unused pieces"
    return None


def piece_schema() -> Any:
    """Returns the module with the protobuf classes of SentencePiece."""
    from sentencepiece import sentencepiece_model_pb2

    return sentencepiece_model_pb2  # Protobuf creates its classes on import.


def find_unlisted(model: bytes) -> int | None:
    """Returns the position of the piece `UNLISTED`, which is the number of ids, or None."""
    pieces = piece_schema().ModelProto.FromString(model).pieces
    return next((i for i, piece in enumerate(pieces) if piece.piece == UNLISTED), None)


def find_foreign(model: bytes) -> set[int]:
    """Returns the ids of a table's pieces that the model itself lacks; see `piece_table`."""
    pieces, end = piece_schema().ModelProto.FromString(model).pieces, find_unlisted(model)
    if end is None or not pieces[end].score:
        return set()
    return {i for i, piece in enumerate(pieces[:end]) if piece.score == pieces[end].score}


def decoding_model(model: bytes) -> bytes:
    """Returns the model that decodes the ids of a table: all pieces as the table has them."""
    proto = piece_schema().ModelProto.FromString(model)
    for i in find_foreign(model):
        proto.pieces[i].type = proto.SentencePiece.NORMAL
    for i in find_languages(model).values():
        proto.pieces[i].piece = proto.pieces[i].piece.removeprefix(SPACE)
    serialized: bytes = proto.SerializeToString()
    return serialized


def find_languages(model: bytes) -> dict[str, int]:
    """Returns the id of each language token, by its language: `por` for `>>por<<`."""
    pieces = piece_schema().ModelProto.FromString(model).pieces
    texts = [piece.piece.removeprefix(SPACE) for piece in pieces[: find_unlisted(model)]]
    # A symbol's piece inside a word comes after its id.
    return {text[2:-2]: i for i, text in reversed([*enumerate(texts)]) if is_language(text)}


def is_language(text: str) -> bool:
    """Returns whether a piece is a language token `>>xx<<`, as multilingual OPUS-MT models have."""
    return len(text) > 4 and text.startswith(">>") and text.endswith("<<")


def open_processor(model: bytes) -> Any:
    """Opens a model with the sentencepiece package.

    Raises:
        InputError: The bytes are no SentencePiece model.
    """
    import sentencepiece

    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError:
        processor = None
    if processor is None or not processor.vocab_size():
        raise InputError(
            f"A tokenizer must be a SentencePiece model; got {len(model)} bytes that are none."
        )
    return processor


def find_line_end(model: bytes) -> int | None:
    """Returns the id of the first piece that contains a line end, or None."""
    pieces = piece_schema().ModelProto.FromString(model).pieces
    ends = (i for i, piece in enumerate(pieces) if "\n" in piece.piece or "\r" in piece.piece)
    return next(ends, None)


def known_characters(model: bytes) -> str | None:
    """Returns the characters of the pieces, sorted.

    None if they do not tell which characters of a text are unknown: the model encodes unknown
    characters as bytes, or has another normalisation.
    """
    proto = piece_schema().ModelProto.FromString(model)
    if proto.trainer_spec.byte_fallback or proto.normalizer_spec.name != NORMALIZATION:
        return None
    spelled = {proto.SentencePiece.NORMAL, proto.SentencePiece.USER_DEFINED}
    symbols = find_symbols(model)  # Their characters are known only within them.
    end = min(symbols.values()) if symbols else find_unlisted(model)
    texts = (piece.piece for piece in proto.pieces[:end] if piece.type in spelled)
    return "".join(sorted({*"".join(texts)} - {SPACE}))
