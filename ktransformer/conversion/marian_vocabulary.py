"""The vocabulary of a Marian folder: vocab.json, source.spm and target.spm."""

from typing import Any, NamedTuple

import numpy as np

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems
from ktransformer.errors import brief
from ktransformer.text.piece_model import is_language, piece_schema

START = "<start>"
"""Our start piece; Marian starts from the padding, and its `<s>` is a piece like others."""
_SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
_LEAST_SHARE = 0.5  # Of a tokenizer's pieces that the table must have.


class Vocabulary(NamedTuple):
    """Marian's vocabulary in our order: padding, unknown, start, end, and the others in theirs.

    Attributes:
        table: Our id of each piece.
        theirs: Their id of each of ours; None for the start.
        models: The SentencePiece models of the source and of the target.
    """

    table: dict[str, int]
    theirs: list[int | None]
    models: tuple[bytes, bytes]

    def rows(self, start: int) -> np.ndarray:
        """Returns the row of their table for each of our ids: int64 `[V]`.

        Args:
            start: Their row for the start.
        """
        return np.array([start if row is None else row for row in self.theirs])

    @property
    def languages(self) -> list[str]:
        """The languages that have a token `>>xx<<`."""
        return sorted(text[2:-2] for text in self.table if is_language(text))


def read_vocabulary(folder: PublishedFolder, problems: Problems, pad: int, end: int) -> Vocabulary:
    """Reads and checks the vocabulary of a Marian folder.

    Args:
        folder: The folder.
        problems: Collects what is wrong; where anything is, the result must not be used.
        pad: The id of padding in config.json.
        end: The id of the end there.
    """
    table = _read_table(folder, problems)
    for text, number in (("<pad>", pad), ("</s>", end)):
        if table and table.get(text) != number:
            problems.add(f"vocab.json has {text}={table.get(text)}, but config.json says {number}")
    if table and "<unk>" not in table:
        problems.add("vocab.json lacks <unk>")
    _check_tokens(folder, problems)
    models = tuple(
        _read_pieces(folder, f"{side}.spm", table, problems) for side in ("source", "target")
    )
    first = ["<pad>", "<unk>", START, "</s>"]
    texts = [*first, *(text for text in sorted(table, key=table.__getitem__) if text not in first)]
    return Vocabulary(
        table={text: i for i, text in enumerate(texts)},
        theirs=[table.get(text) for text in texts],
        models=(models[0], models[1]),
    )


def _read_table(folder: PublishedFolder, problems: Problems) -> dict[str, int]:
    """Returns vocab.json, {} where it is wrong."""
    table = folder.read_json("vocab.json")
    size = folder.config.get("vocab_size")
    if table is None:
        problems.add("it lacks vocab.json")
    elif not isinstance(table, dict) or any(type(number) is not int for number in table.values()):
        problems.add("vocab.json must hold the id of each piece")
    elif sorted(table.values()) != list(range(len(table))):
        problems.add(f"vocab.json must have the ids 0 to {len(table) - 1}, each once")
    elif len(table) != size:
        problems.add(f"vocab.json has {len(table)} pieces, but config.json vocab_size={size}")
    else:
        return table
    return {}


def _check_tokens(folder: PublishedFolder, problems: Problems) -> None:
    """Checks that the tokenizer has no other tokens than its vocabulary."""
    if folder.file("target_vocab.json") is not None:
        problems.add("it has a target_vocab.json: each side would have a vocabulary of its own")
    settings = folder.read_json("tokenizer_config.json") or {}
    added = folder.read_json("added_tokens.json") or {}
    if not isinstance(settings, dict) or not isinstance(added, dict):
        problems.add("tokenizer_config.json and added_tokens.json must hold objects")
        return
    for name, text in _SPECIAL.items():
        if _text_of(settings.get(name, text)) != text:
            problems.add(f"tokenizer_config.json has {name}={brief(settings[name])}, not {text}")
    if settings.get("separate_vocabs"):
        problems.add("tokenizer_config.json has separate_vocabs=true: each side has its own ids")
    if settings.get("sp_model_kwargs"):
        problems.add(f"tokenizer_config.json has sp_model_kwargs={settings['sp_model_kwargs']!r}")
    decoder = settings.get("added_tokens_decoder")
    texts = [*added, *map(_text_of, decoder.values() if isinstance(decoder, dict) else ())]
    for text in texts:
        if text not in _SPECIAL.values():
            problems.add(f"its tokenizer has an additional token, {brief(text)}")


def _text_of(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _read_pieces(
    folder: PublishedFolder, name: str, table: dict[str, int], problems: Problems
) -> bytes:
    """Returns a SentencePiece model; b"" where it is wrong."""
    path = folder.file(name)
    if path is None:
        problems.add(f"it lacks {name}")
        return b""
    model, schema = path.read_bytes(), piece_schema()
    try:
        proto = schema.ModelProto.FromString(model)
    except Exception as error:
        problems.add(f"{name} is no SentencePiece model ({type(error).__name__})")
        return b""
    kind = schema.TrainerSpec.ModelType.Name(proto.trainer_spec.model_type)
    normal = [piece.piece for piece in proto.pieces if piece.type == proto.SentencePiece.NORMAL]
    missing = sum(text not in table for text in normal)
    if not normal:
        problems.add(f"{name} is no SentencePiece model with pieces")
    elif kind != "UNIGRAM":
        problems.add(f"{name} is of the kind {kind}, and only UNIGRAM can be renumbered")
    elif table and missing > (1 - _LEAST_SHARE) * len(normal):
        problems.add(f"{missing} of the {len(normal)} pieces of {name} are not in vocab.json")
    return model
