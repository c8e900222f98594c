"""The tokenizer: trained from text, the same in training and in the serving graph."""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.errors import InputError
from ktransformer.text.base_tokenizer import BaseTokenizer, register_tokenizer, tensorflow_text
from ktransformer.text.line_limits import check_lines, is_empty
from ktransformer.text.piece_model import (
    MASK,
    NORMALIZATION,
    SPACE,
    add_symbols,
    check_symbols,
    decoding_model,
    find_foreign,
    find_languages,
    find_unlisted,
    known_characters,
    lite_obstacle,
    open_processor,
    remove_pieces_with,
)
from ktransformer.text.piece_table import renumber_pieces
from ktransformer.text.special_ids import END_ID, PAD_ID, START_ID, UNKNOWN_ID
from ktransformer.text.stored_tokenizer import StoredTokenizer

# What SentencePiece leaves out is longer, unless it is told so; then the model says it, too.
_SENTENCE_BYTES = 4192
_LEAST_COVERAGE = 0.98  # SentencePiece takes no less.
_LISTED, _UNLISTED, _FOREIGN = range(3)  # Kinds of the pieces of a table; see `piece_table`.


@register_tokenizer
class Tokenizer(BaseTokenizer):
    """A SentencePiece unigram tokenizer that runs in a TensorFlow graph.

    `train` makes one with the special ids 0 padding, 1 unknown, 2 start and 3 end; another
    SentencePiece model keeps its own. One trained with `mask=True` also has a mask token, `<mask>`
    in a text; one trained with `symbols` or `tags` has these, each one unbreakable piece.

    A model that `train` made runs as tensorflow-text's `FastSentencepieceTokenizer`, the one form
    that TensorFlow and LiteRT share, so that every engine computes the same ids. They equal the ids
    of the sentencepiece package, except where segmentations are equally probable and for a `▁` that
    stands alone. A SentencePiece model whose fast form would differ runs in its plain form;
    `lite_obstacle` then says why it has no LiteRT form.

    Text is normalised by SentencePiece's `nmt_nfkc`: NFKC, tabs and line ends become spaces, most
    other control characters vanish, spaces are trimmed at both ends and runs of them become one.
    Decoding the ids of a text gives the normalised text. A character that was not in the training
    text becomes unknown. A symbol has the same id after a space and inside a word, in TensorFlow
    and LiteRT; decoding puts a space before it. So has the mask token.

    Attributes:
        model: The serialized SentencePiece model.
        vocabulary_size: The number of ids. The last are those of the symbols, the mask behind the
            others, and then as many again, which no text is encoded into: the symbols inside a
            word.
        special_ids: The ids of the start, the end, padding, unknown characters and the mask.
        symbols: The id of each symbol, tags included, the mask not.
        tags: The symbols that only sources contain: a search for translations never writes them.
        symbol_count: The number of symbols, the mask included.
        unwritten_ids: The ids that a search for translations never writes: those of the tags, the
            mask, and the symbols inside a word.
        characters: The known characters, in order, without those that only symbols contain; None if
            the model does not tell them.
        lite_obstacle: Why there is no LiteRT form with the same ids, or None.

    Args:
        model: A serialized SentencePiece model.

    Raises:
        InputError: `model` is not a SentencePiece model, lacks a special id, or has a piece with a
            line end, which would break a text into two lines.

    Example:
        ```python
        tokenizer = Tokenizer.train(["two dogs run", "a dog"], vocabulary_size=40)
        ids = tokenizer.encode(tf.constant(["a dog"]))  # tf.RaggedTensor
        texts = tokenizer.decode(ids)
        ```

    Reference: Kudo 2018 (unigram model); Kudo and Richardson 2018 (SentencePiece).
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        super().__init__(name="tokenizer")
        stored = StoredTokenizer(model)
        self.model, self.vocabulary_size = model, stored.vocabulary_size
        self.special_ids, self.tags = stored.special_ids, stored.tags
        self.mask_token = None if self.special_ids.mask is None else MASK
        self.symbols = symbols = stored.symbols
        self.symbol_count = len(symbols) + (self.mask_token is not None)
        self._symbols_end = self.vocabulary_size - self.symbol_count
        if symbols:
            written = {i for symbol, i in symbols.items() if symbol not in self.tags}
            every = range(min(symbols.values()), self.vocabulary_size)
            self.unwritten_ids = tuple(
                i for i in every if i >= self._symbols_end or i not in written
            )
        self.characters = known_characters(model)
        self.lite_obstacle = lite_obstacle(model)
        if self.lite_obstacle is None:
            form = tensorflow_text.FastSentencepieceTokenizer
        else:
            form = tensorflow_text.SentencepieceTokenizer
        self._graph = self._decoder = form(model, add_eos=True)
        foreign = find_foreign(model)
        if foreign:
            self._decoder = form(decoding_model(model), add_eos=True)
        self._kinds = None
        unlisted = find_unlisted(model)
        if unlisted is not None:
            kinds = np.full(open_processor(model).vocab_size(), _LISTED, np.int32)
            kinds[unlisted:] = _UNLISTED
            kinds[[*foreign, self.special_ids.unknown] if foreign else []] = _FOREIGN
            self._kinds = kinds

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        vocabulary_size: int,
        *,
        split_digits: bool = True,
        character_coverage: float = 1.0,
        mask: bool = False,
        symbols: Sequence[str] = (),
        tags: Sequence[str] = (),
    ) -> "Tokenizer":
        """Trains a tokenizer.

        Args:
            lines: The text, a sentence each; both languages for a shared vocabulary. Symbols in it
                count as spaces.
            vocabulary_size: The most pieces, the four special ones and two for each symbol and the
                mask included. A small text may give fewer.
            split_digits: Whether every digit is a piece of its own.
            character_coverage: Share of the text's characters to keep; the rarest others become
                unknown. 1 keeps all.
            mask: Whether there is a mask token, for a masked language model.
            symbols: Texts that become one unbreakable piece each, such as `<x1>`.
            tags: Symbols that only sources contain, such as `<2de>`; see `tags` above.

        Raises:
            InputError: The text is empty, has more different characters than `vocabulary_size`
                has room for, or its lines are not strings; a symbol is empty, has white space in
                it, does not survive the normalisation, is there twice, contains another or is a
                special piece; or an argument is out of its range.
        """
        import sentencepiece

        model = io.BytesIO()
        own = [*symbols, *tags]
        all_symbols = [*own, MASK] if mask else own
        extra = 2 * len(all_symbols)
        if MASK in own:
            raise InputError(f"No symbol may be {MASK}, which mask=True adds; got {own}.")
        lines = _without(own, check_lines(lines))
        _check_training(lines, vocabulary_size, character_coverage)
        longest = max(len(line.encode()) for line in lines)
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                model_type="unigram",
                vocab_size=vocabulary_size - extra,
                hard_vocab_limit=False,
                character_coverage=character_coverage,
                split_digits=split_digits,
                max_sentence_length=max(longest, _SENTENCE_BYTES),
                normalization_rule_name=NORMALIZATION,
                pad_id=PAD_ID,
                unk_id=UNKNOWN_ID,
                bos_id=START_ID,
                eos_id=END_ID,
                num_threads=2,  # Fixed: the sums, and so the pieces, depend on it.
                minloglevel=3,  # What goes wrong is raised.
            )
        except RuntimeError as error:
            raise InputError(_explain(error, lines, vocabulary_size, extra)) from error
        trained = model.getvalue()
        if all_symbols:
            check_symbols(trained, all_symbols)
            trained = add_symbols(remove_pieces_with(trained, all_symbols), all_symbols, tags)
        return cls(trained)

    @classmethod
    def from_table(
        cls, model: bytes, table: Mapping[str, int], *, start_piece: str | None = None
    ) -> "Tokenizer":
        """Makes a tokenizer whose ids are those of a table, such as Marian's `vocab.json`.

        Args:
            model: A serialized SentencePiece model of the kind unigram.
            table: The id of each piece, also of pieces that only the tokenizer of the other side
                has; see `piece_table.renumber_pieces`.
            start_piece: The start piece, one more id if the table lacks it; None for `<s>`.

        Raises:
            InputError: See `piece_table.renumber_pieces`.
        """
        return cls(renumber_pieces(model, table, start_piece=start_piece))

    @property
    def ordinary_ids(self) -> np.ndarray:
        """The ids of all pieces but the special ones and the symbols, ascending: int32 `[N]`."""
        return self.special_ids.ordinary(self.vocabulary_size - 2 * self.symbol_count)

    def encode(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Turns texts `[B]` into ids, the end token included; runs in a graph.

        A run of characters that the SentencePiece model does not know is one piece of the table
        (see `from_table`), if it is spelled like it, and otherwise one unknown token.
        """
        ids = self._graph.tokenize(texts)
        if self._kinds is not None:
            ids = self._look_up_runs(ids)
        if self.symbol_count:
            ids = ids.with_flat_values(self.join_symbols(ids.flat_values))
        return ids

    def join_symbols(self, ids: Any) -> Any:
        """Gives the symbols inside words the ids that they have after a space; an array or tensor.

        `encode` returns such ids. Use it on those of the SentencePiece model itself.
        """
        where = np.where if isinstance(ids, np.ndarray) else tf.where
        return where(ids >= self._symbols_end, ids - self.symbol_count, ids)

    def _look_up_runs(self, ids: tf.RaggedTensor) -> tf.RaggedTensor:
        """Makes one unknown token of each run of foreign pieces, and of each unlisted piece."""
        kinds = tf.gather(tf.constant(self._kinds), ids.flat_values)
        foreign = kinds == _FOREIGN
        padded = tf.concat([[False], foreign, [False]], axis=0)  # Rows end with the end token.
        before, after = padded[:-2], padded[2:]
        unknown = (kinds == _UNLISTED) | (foreign & (before | after))
        flat = tf.where(unknown, self.special_ids.unknown, ids.flat_values)
        kept = ~(foreign & before)
        counts = tf.concat([[0], tf.cumsum(tf.cast(kept, tf.int32))], axis=0)
        flat = tf.gather(flat, tf.where(kept)[:, 0])
        splits = tf.cast(tf.gather(counts, ids.row_splits), ids.row_splits.dtype)
        return tf.RaggedTensor.from_row_splits(flat, splits, validate=False)

    def decode(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Turns ids `[B, T]`, dense with padding or ragged, into texts `[B]`; runs in a graph."""
        if not isinstance(ids, tf.RaggedTensor):
            ids = tf.RaggedTensor.from_tensor(ids, row_splits_dtype=tf.int32)
        if self._kinds is not None:  # Its unknown tokens leave no trace in a text.
            special = self.special_ids
            known = tf.where(ids.flat_values == special.unknown, special.pad, ids.flat_values)
            ids = ids.with_flat_values(known)
        # LiteRT does not size the output of detokenize by the batch; the gather does.
        return tf.gather(self._decoder.detokenize(ids), tf.range(ids.nrows()))

    def language_id(self, language: str) -> int:
        """Returns the id of a language token: `"por"` for `>>por<<`.

        Raises:
            InputError: The tokenizer has no such token.
        """
        tokens = find_languages(self.model)
        if language not in tokens:
            known = (
                f"one of {', '.join(sorted(tokens))}"
                if tokens
                else "null for a model without languages"
            )
            raise InputError(f"target_language must be {known}; got {language!r}.")
        return tokens[language]

    def normalize_lines(self, lines: Sequence[str]) -> list[str]:
        """Normalises many lines at once, as `normalize` does one."""
        import sentencepiece

        lines = check_lines(lines)
        normalizer = sentencepiece.SentencePieceNormalizer(
            model_proto=self.model, remove_extra_whitespaces=True
        )
        return [normalizer.normalize(line).replace(SPACE, " ").strip(" ") for line in lines]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Returns the text of each id, a leading space as `▁`."""
        processor = open_processor(self.model)
        return [processor.id_to_piece(int(i)) for i in ids]


def _without(symbols: Sequence[str], lines: Sequence[str]) -> Sequence[str]:
    """Replaces the symbols in a text by spaces."""
    if not any(symbols):
        return lines
    symbol = re.compile("|".join(re.escape(each) for each in symbols if each))
    return [symbol.sub(" ", line) for line in lines]


def _check_training(lines: Sequence[str], vocabulary_size: int, character_coverage: float) -> None:
    if vocabulary_size < 1:
        raise InputError(f"vocabulary_size must be at least 1; got {vocabulary_size}.")
    if not _LEAST_COVERAGE <= character_coverage <= 1:
        raise InputError(
            f"character_coverage must be from {_LEAST_COVERAGE} to 1; got {character_coverage}."
        )
    if all(map(is_empty, lines)):
        raise InputError(
            f"No tokenizer of vocabulary_size={vocabulary_size} can be trained on a text without "
            f"a visible character; got {len(lines)} lines."
        )


def _explain(error: RuntimeError, lines: Sequence[str], vocabulary_size: int, extra: int) -> str:
    """Says in our words what SentencePiece's trainer found wrong."""
    start = f"No tokenizer of vocabulary_size={vocabulary_size} can be trained on this text: "
    sizes = re.search(r"required_chars\. \d+ vs (\d+)", str(error))
    if sizes:
        least = int(sizes[1]) + extra
        return (
            f"{start}its characters and the special ids need {least}; raise vocabulary_size to "
            "that, or lower character_coverage."
        )
    longest = max(range(len(lines)), key=lambda i: len(lines[i]))
    return (
        f"{start}SentencePiece gave up; leave out lines that are no text (the longest, line "
        f"{longest + 1} of {len(lines)}, has {len(lines[longest])} characters)."
    )
