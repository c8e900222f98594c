"""Llama's tokenizer in: SentencePiece's `tokenizer.model`, and the JSON files beside it."""

from typing import Any

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.tokenizer_files import (
    HARMLESS,
    OTHER_IDS,
    TOKENIZER_CONFIG,
    TokenizerFiles,
)
from ktransformer.errors import InputError, brief
from ktransformer.text import Tokenizer
from ktransformer.text.piece_model import open_processor, piece_schema

TOKENIZER = "tokenizer.model"
_PAD = "<added_padding>"
_CLASSES = ("LlamaTokenizer", "LlamaTokenizerFast", "LLaMATokenizer")
_HARMLESS = (
    "from_slow",
    "legacy",  # It counts where a text holds special tokens, and here it holds none.
    "model_max_length",  # The length of the positions holds.
    "padding_side",
    "spaces_between_special_tokens",
    "split_special_tokens",  # Special tokens in a text are text here.
    "truncation_side",
    "use_default_system_prompt",
)


def read_tokenizer(
    folder: PublishedFolder, size: int, start: int, end: int, problems: Problems
) -> Tokenizer | None:
    """Reads `tokenizer.model`, adds pieces up to the number of ids, and padding behind them.

    Ids that have no piece, such as those that fill up a table, become control pieces: no text is
    encoded into them.

    Args:
        folder: The folder.
        size: The number of the model's ids.
        start: The id that begins a text.
        end: The id that ends it.
        problems: Gets a sentence for each setting, and for each added token, that would give other
            ids.

    Returns:
        The tokenizer; None where there is no `tokenizer.model`, or where it is wrong.
    """
    path = folder.file(TOKENIZER)
    if path is None:
        return None
    proto = piece_schema().ModelProto()
    try:
        model = path.read_bytes()
        ids = open_processor(model)
        proto.ParseFromString(model)
    except InputError as error:
        problems.add(str(error))
        return None
    if (ids.bos_id(), ids.eos_id()) != (start, end) or len(proto.pieces) > size:
        problems.add(
            f"{TOKENIZER} has {len(proto.pieces)} pieces, start {ids.bos_id()} and end "
            f"{ids.eos_id()}, but config.json says vocab_size={size}, bos_token_id={start} and "
            f"eos_token_id={end}"
        )
        return None
    files = TokenizerFiles.read(folder, problems)
    names = {"bos_token": start, "eos_token": end, "unk_token": ids.unk_id()}
    special = {name: proto.pieces[number].piece for name, number in names.items()}
    _check_settings(files, special, proto, problems)
    _check_added(files, proto, problems)
    control = proto.SentencePiece.CONTROL
    for i in range(len(proto.pieces), size):
        proto.pieces.add(piece=f"<added_{i}>", type=control)
    proto.pieces.add(piece=_PAD, type=control)
    proto.trainer_spec.pad_piece, proto.trainer_spec.pad_id = _PAD, size
    proto.trainer_spec.vocab_size = size + 1
    try:
        return Tokenizer(proto.SerializeToString())
    except InputError as error:
        problems.add(str(error))
        return None


def _check_settings(
    files: TokenizerFiles, special: dict[str, str], proto: Any, problems: Problems
) -> None:
    """Checks that Hugging Face encodes and decodes a text as `tokenizer.model` does."""
    settings = Settings(files.config, problems, TOKENIZER_CONFIG)
    settings.require("tokenizer_class", *_CLASSES, None, why=OTHER_IDS)
    settings.require("add_bos_token", True, None, why="a text begins with the start token here")
    settings.require("add_eos_token", False, None, why="a prompt has no end token here")
    prefix = proto.normalizer_spec.add_dummy_prefix
    settings.require("add_prefix_space", None, prefix, why=f"{TOKENIZER} has the contrary")
    settings.require("sp_model_kwargs", {}, None, why=OTHER_IDS)
    settings.require(
        "clean_up_tokenization_spaces", False, None, why="spaces before marks would be dropped"
    )
    settings.ignore("pad_token", *special, *_HARMLESS, *HARMLESS)
    settings.finish()
    for name, piece in special.items():
        found = files.special_token(name, piece)
        if found != piece:
            problems.add(f"its {name} is {brief(found)}, which must be {piece}, as in {TOKENIZER}")


def _check_added(files: TokenizerFiles, proto: Any, problems: Problems) -> None:
    """Checks that no text is encoded into an added token.

    Special pieces of `tokenizer.model` may be named again, and padding may be added: in a text
    their names are text here.
    """
    marks = (proto.SentencePiece.CONTROL, proto.SentencePiece.UNKNOWN)
    special = {i: piece.piece for i, piece in enumerate(proto.pieces) if piece.type in marks}
    padding = files.special_token("pad_token")
    for origin, text, number in files.added_tokens():
        known = text in special.values() if number is None else special.get(number) == text
        is_padding = text == padding and all(text != piece.piece for piece in proto.pieces)
        if text is None or not (known or is_padding):
            problems.add(f"{origin} adds the token {brief(text)}: {OTHER_IDS}")
