"""BERT's tokenizer: WordPiece with BERT's own normalisation, in the serving graph."""

import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text.base_tokenizer import (
    BaseTokenizer,
    read_fields,
    register_tokenizer,
    tensorflow_text,
)
from ktransformer.text.bert_characters import PARTS_OF_WORDS, SPACES
from ktransformer.text.bert_normalizer import normalizer_model, normalizing_table
from ktransformer.text.line_limits import check_lines
from ktransformer.text.special_ids import SpecialIds

PAD, UNKNOWN, START, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_PIECES = (PAD, UNKNOWN, START, END, MASK)
SUFFIX = "##"  # Marks a piece that continues a word.
_WORD_CHARACTERS = 100  # A longer word is unknown.
_WORD_BYTES = 4 * _WORD_CHARACTERS
_PIECE_BYTES = 256  # FastWordpieceTokenizer's longest.
# Sets brackets apart, so that every mask is a word. WhitespaceTokenizer cuts words right at a plain
# space alone. Three control characters that it takes for white space become another of them.
_MASK_TABLE = {
    **{chr(point): " " for point in SPACES if point != ord(" ")},
    **dict.fromkeys("\x0b\x0c\x85", "\x01"),
    "[": " [",
    "]": "] ",
}


@register_tokenizer
class WordPieceTokenizer(BaseTokenizer):
    """BERT's tokenizer, which runs in a TensorFlow graph and in LiteRT.

    The ids are those of Hugging Face's `BertTokenizer` with the same vocabulary: `[CLS]`, the
    pieces, `[SEP]`. Text is normalised as for BERT: control characters vanish, white space becomes
    spaces, letters lose case and accents if the settings say so, and every sign of punctuation and
    every Chinese character is a word. A word with a part that is not in the vocabulary, or of more
    than 100 characters, is unknown. The names of the special pieces in a text are plain text, but
    for `[MASK]` in a tokenizer with a mask.

    Decoding gives the words with a space between each two, without padding, `[CLS]` and `[SEP]`.

    Attributes:
        vocabulary: The pieces, in the order of their ids.
        lowercase: Whether letters lose their case.
        strip_accents: Whether letters lose their accents.

    Args:
        model: The file, a JSON object with `kind`, `vocabulary`, `lowercase`, `strip_accents` and
            `mask`; see `from_vocabulary`.

    Raises:
        InputError: It is no such file, or see `from_vocabulary`.

    Example:
        ```python
        pieces = Path("vocab.txt").read_text().splitlines()
        tokenizer = WordPieceTokenizer.from_vocabulary(pieces, lowercase=True)
        ids = tokenizer.encode(tf.constant(["Two dogs."]))  # tf.RaggedTensor
        ```

    Reference: Devlin et al. 2019; Song et al. 2021 (Fast WordPiece).
    """

    kind = "wordpiece"
    adds_start = True
    characters = None  # Words are unknown, not characters.
    lite_obstacle = None

    def __init__(self, model: bytes) -> None:
        super().__init__(name="tokenizer")
        fields = read_fields(model, "The tokenizer")
        self.model = model
        self.vocabulary, self.lowercase, self.strip_accents, has_mask = _checked(fields)
        self.vocabulary_size = len(self.vocabulary)
        pad, unknown, start, end, mask = map(self.vocabulary.index, SPECIAL_PIECES)
        self.special_ids = SpecialIds(start, end, pad, unknown, mask if has_mask else None)
        self.mask_token = MASK if has_mask else None
        self._mask_piece = mask
        known = PARTS_OF_WORDS & {ord(each) for piece in self.vocabulary for each in piece}
        normalizer = _normalizer(self.lowercase, self.strip_accents, known)
        self._graph = tensorflow_text.FastBertTokenizer(
            token_out_type=tf.int32,
            fast_wordpiece_model_buffer=tf.constant(_piece_model(self.vocabulary)),
            fast_bert_normalizer_model_buffer=tf.constant(normalizer),
        )
        self._sizes = np.array([_size(piece) for piece in self.vocabulary], np.int32)  # [V]
        if has_mask:
            self._set_apart = tensorflow_text.FastBertNormalizer(
                model_buffer=tf.constant(normalizer_model(_MASK_TABLE))
            )
            self._split = tensorflow_text.WhitespaceTokenizer()

    @classmethod
    def from_vocabulary(
        cls,
        pieces: Sequence[str],
        *,
        lowercase: bool,
        strip_accents: bool | None = None,
        mask: bool = False,
    ) -> "WordPieceTokenizer":
        """Makes a tokenizer.

        Args:
            pieces: The vocabulary, in the order of the ids, as `vocab.txt` has it. It must hold
                `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` and `[MASK]`.
            lowercase: Whether letters lose their case: true for an uncased model.
            strip_accents: Whether letters lose their accents; None for as `lowercase` says.
            mask: Whether `[MASK]` in a text is the mask, for a masked language model.

        Raises:
            InputError: A special piece is missing, or a piece is empty, there twice, or longer
                than 256 bytes.
        """
        fields = {
            "kind": cls.kind,
            "vocabulary": list(pieces),
            "lowercase": lowercase,
            "strip_accents": lowercase if strip_accents is None else strip_accents,
            "mask": mask,
        }
        return cls(json.dumps(fields, ensure_ascii=False, indent=0).encode())

    @property
    def ordinary_ids(self) -> np.ndarray:
        """The ids of all pieces but the five special ones, ascending: int32 `[N]`."""
        return self.special_ids._replace(mask=self._mask_piece).ordinary(self.vocabulary_size)

    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Turns texts `[B]` into ids, `[CLS]` and `[SEP]` included; runs in a graph."""
        if self.special_ids.mask is None:
            tokens = self._graph.tokenize(texts)
            ids, splits = tokens.flat_values, tf.cast(tokens.row_splits, tf.int32)
        else:
            ids, splits = self._encode_masks(texts)
        ids, splits = self._without_long_words(ids, splits)
        ids, splits = _framed(ids, splits, self.special_ids)
        return tf.RaggedTensor.from_row_splits(ids, splits, validate=False)

    def _encode_masks(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the ids of texts with masks, `[N]`, and the splits of the texts, `[B + 1]`."""
        words = self._split.tokenize(self._set_apart.normalize(texts))
        tokens = self._graph.tokenize(words.flat_values)
        ids, word_splits = tokens.flat_values, tf.cast(tokens.row_splits, tf.int32)
        is_mask = tf.cast(words.flat_values == MASK, tf.int32)  # [W]
        # Words without a token end where the next begins: their marks add up there.
        begins = tf.scatter_nd(word_splits[:-1, None], tf.ones_like(is_mask), [tf.size(ids) + 1])[
            :-1
        ]
        masked = tf.gather(tf.concat([is_mask, [0]], 0), tf.cumsum(begins) - 1) > 0  # [N]
        ids = tf.where(masked, self.special_ids.mask, ids)
        splits = tf.gather(word_splits, tf.cast(words.row_splits, tf.int32))
        return _keep(ids, splits, tf.logical_or(begins > 0, tf.logical_not(masked)))

    def _without_long_words(self, ids: tf.Tensor, splits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Makes every word of more than 100 characters one unknown piece."""
        sizes = tf.gather(self._sizes, ids)  # [N]
        begins = sizes > 0
        word = tf.cumsum(tf.cast(begins, tf.int32)) - 1
        lengths = tf.scatter_nd(word[:, None], tf.abs(sizes), tf.shape(ids))
        is_long = tf.gather(lengths, word) > _WORD_CHARACTERS
        ids = tf.where(is_long, self.special_ids.unknown, ids)
        return _keep(ids, splits, tf.logical_or(begins, tf.logical_not(is_long)))

    def decode(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Turns ids `[B, T]`, dense with padding or ragged, into texts `[B]`; runs in a graph."""
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(ids, row_splits_dtype=tf.int32)
        flat, special = ids.flat_values, self.special_ids
        kept = (flat != special.pad) & (flat != special.start) & (flat != special.end)
        flat, splits = _keep(flat, tf.cast(ids.row_splits, tf.int32), kept)
        words = tf.RaggedTensor.from_row_splits(flat, tf.cast(splits, tf.int64), validate=False)
        # LiteRT does not size the output of detokenize by the batch; the gather does.
        return tf.gather(self._graph.detokenize(words), tf.range(tf.size(splits) - 1))

    def normalize_lines(self, lines: Sequence[str]) -> list[str]:
        """Normalises many lines at once, as `normalize` does one."""
        table = str.maketrans(
            dict(normalizing_table(lowercase=self.lowercase, strip_accents=self.strip_accents))
        )
        separator = [MASK] if self.special_ids.mask is not None else []
        parts = [line.split(MASK) if separator else [line] for line in check_lines(lines)]
        words = iter(_words([part.translate(table) for line in parts for part in line]))
        normal = []
        for line in parts:
            joined = [next(words)]
            for _ in line[1:]:
                joined += [separator, next(words)]
            normal.append(" ".join(word for part in joined for word in part))
        return normal

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the text of each id; a piece that continues a word begins with `##`."""
        return [self.vocabulary[int(i)] for i in ids]


def _piece_model(vocabulary: Sequence[str]) -> np.ndarray:
    """Returns the flatbuffer of `FastWordpieceTokenizer`."""
    try:
        model: bytes = tensorflow_text.build_fast_wordpiece_model(
            vocabulary, _WORD_BYTES, SUFFIX, UNKNOWN, False, True
        )
    except RuntimeError as error:
        raise InputError(f"This vocabulary makes no WordPiece tokenizer: {error}") from error
    return np.frombuffer(model, np.uint8)


def _size(piece: str) -> int:
    """Returns the characters of a piece, negative if it continues a word."""
    return len(SUFFIX) - len(piece) if _continues(piece) else len(piece)


def _continues(piece: str) -> bool:
    return piece.startswith(SUFFIX) and piece != SUFFIX


@functools.cache
def _normalizer(lowercase: bool, strip_accents: bool, known: frozenset[int]) -> np.ndarray:
    """Returns the flatbuffer of `FastBertNormalizer`; `known` are parts of words with a piece."""
    table = normalizing_table(lowercase=lowercase, strip_accents=strip_accents)
    return normalizer_model({key: text for key, text in table.items() if ord(key) not in known})


def _words(lines: Sequence[str]) -> list[list[str]]:
    """Splits normalised lines into words, as the graph does."""
    splitter = tensorflow_text.FastWordpieceTokenizer(["a", UNKNOWN], token_out_type=tf.int32)
    _, starts, ends = splitter.tokenize_with_offsets(tf.constant(lines, tf.string))
    return [
        [line.encode()[first:last].decode() for first, last in zip(*offsets, strict=True)]
        for line, *offsets in zip(lines, starts.to_list(), ends.to_list(), strict=True)
    ]


def _keep(ids: tf.Tensor, splits: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Drops ids `[N]` of texts with splits `[B + 1]`."""
    counts = tf.concat([[0], tf.cumsum(tf.cast(kept, tf.int32))], axis=0)
    return tf.boolean_mask(ids, kept), tf.gather(counts, splits)


def _framed(ids: tf.Tensor, splits: tf.Tensor, special: SpecialIds) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts the start token before each text and the end token behind it."""
    last = tf.size(ids)
    splits += 2 * tf.range(tf.size(splits))
    total = tf.stack([splits[-1]])
    ones = tf.ones_like(splits[1:])
    starts = tf.scatter_nd(splits[:-1, None], ones, total)
    ends = tf.scatter_nd(splits[1:, None] - 1, ones, total)
    places = tf.range(splits[-1]) + 1 - 2 * tf.cumsum(starts)
    places = tf.maximum(tf.minimum(places, last), 0)  # Those of start and end tokens do not count.
    tokens = tf.gather(tf.concat([ids, [special.end]], axis=0), places)
    tokens = tf.where(ends > 0, special.end, tokens)
    return tf.where(starts > 0, special.start, tokens), splits


def _checked(fields: dict[str, Any]) -> tuple[list[str], bool, bool, bool]:
    """Returns the fields of a file: the vocabulary, lowercase, strip_accents and mask."""
    vocabulary = fields.get("vocabulary")
    if not isinstance(vocabulary, list) or not all(isinstance(each, str) for each in vocabulary):
        raise InputError("The vocabulary of a WordPiece tokenizer must be a list of strings.")
    flags: list[Any] = [fields.get(name) for name in ("lowercase", "strip_accents", "mask")]
    if not all(isinstance(flag, bool) for flag in flags):
        raise InputError(
            "lowercase, strip_accents and mask of a WordPiece tokenizer must be true or false."
        )
    missing = [piece for piece in SPECIAL_PIECES if piece not in vocabulary]
    if missing:
        raise InputError(f"The vocabulary must hold {', '.join(missing)}.")
    first: dict[str, int] = {}
    for i, piece in enumerate(vocabulary):
        place = f"got {piece!r} as number {i}"
        if not piece.strip() or len(piece.splitlines()) > 1:
            raise InputError(f"Every piece of the vocabulary must be visible text; {place}.")
        if len(piece.encode("utf-8", "replace")) > _PIECE_BYTES:
            raise InputError(f"A piece of the vocabulary may have {_PIECE_BYTES} bytes; {place}.")
        if first.setdefault(piece, i) != i:
            raise InputError(
                f"The pieces of the vocabulary must be different; {place} and {first[piece]}."
            )
    return vocabulary, flags[0], flags[1], flags[2]
