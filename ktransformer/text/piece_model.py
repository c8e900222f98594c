"""Reads and edits serialized SentencePiece models: the mask, single pieces, their properties."""

from collections.abc import Mapping, Sequence
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

_SCORE_MARGIN = 0.1  # Of an added word over its segmentation: far above rounding.


def add_mask(model: bytes) -> bytes:
    """Adds the mask token to a trained model: one piece with a leading space, and one without.

    They are normal pieces, because LiteRT's tokenizer has no user-defined ones. Their score
    exceeds what the neighbouring pieces can lose, so the best segmentation always contains them.
    """
    proto = piece_schema().ModelProto.FromString(model)
    # Without the pieces that a training text with `<mask>` in it may have given.
    ordinary = [piece for piece in proto.pieces if MASK not in piece.piece]
    lowest = min(piece.score for piece in ordinary) - UNKNOWN_PENALTY
    score = -2 * proto.trainer_spec.max_sentencepiece_length * lowest
    del proto.pieces[:]
    proto.pieces.extend(ordinary)
    for text in (SPACE + MASK, MASK):
        proto.pieces.add(piece=text, score=score)
    added: bytes = proto.SerializeToString()
    return added


def find_mask(model: bytes) -> int | None:
    """Returns the id of the mask token that `add_mask` added, or None."""
    pieces = piece_schema().ModelProto.FromString(model).pieces
    last = [(piece.piece, piece.score > 0) for piece in pieces[-2:]]  # Trained scores are negative.
    return len(pieces) - 2 if last == [(SPACE + MASK, True), (MASK, True)] else None


def essential_pieces(model: bytes) -> list[int]:
    """Returns the ids that every smaller vocabulary must keep, ascending.

    These are the special and user-defined pieces, both pieces of the mask, all single characters,
    so that every text of known characters can still be encoded, and the piece with the lowest
    score, from which SentencePiece derives the score of unknown characters.

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
    mask = find_mask(model)
    return sorted(essential | (set() if mask is None else {mask, mask + 1}))


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


def add_words(model: bytes, words: Sequence[str]) -> tuple[bytes, list[list[int]]]:
    """Adds whole words to a unigram model as pieces behind its last id.

    A word gets a score just above its best segmentation, so that a text with this word always
    contains the new piece; it is at least the lowest score, on which that of unknown characters
    depends.

    Args:
        model: A model for which `lite_obstacle` is None, with all pieces in its table of ids.
        words: Words that are no pieces yet, each once.

    Returns:
        The new model, and for each added word, in the order of the new ids, the ids of the pieces
        that it had before.

    Raises:
        InputError: A word is empty, has a space or a line end in it, is a piece already or is there
            twice, or the model is of another kind.
    """
    if lite_obstacle(model) is not None or find_mask(model) or find_unlisted(model) is not None:
        reason = lite_obstacle(model) or "it has a mask, or pieces without an id"
        raise InputError(f"Pieces cannot be added to the tokenizer: {reason}.")
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
    scores = {piece: scores[piece] for piece in pieces}  # In the order of the words.
    replaced = [before.encode(piece.replace(SPACE, " ")) for piece in pieces]
    return _with_pieces(model, scores), replaced


def _with_pieces(model: bytes, scores: Mapping[str, float]) -> bytes:
    """Returns a model with pieces of some scores behind its last."""
    proto = piece_schema().ModelProto.FromString(model)
    for piece, score in scores.items():
        proto.pieces.add(piece=piece, score=score)
    proto.trainer_spec.vocab_size = len(proto.pieces)
    extended: bytes = proto.SerializeToString()
    return extended


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
    return {text[2:-2]: i for i, text in enumerate(texts) if is_language(text)}


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
    listed = proto.pieces[: find_unlisted(model)]
    texts = (piece.piece for piece in listed if piece.type in spelled)
    return "".join(sorted({*"".join(texts)} - {SPACE}))
