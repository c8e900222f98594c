"""The translator: tokenizer, Transformer and search in TensorFlow graphs, from text to text."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from ktransformer.config import Config, DecodingConfig
from ktransformer.decoding import (
    Hypotheses,
    LengthPenalty,
    Rule,
    SpecialIds,
    length_limits,
    sample,
    sampling_rules,
    to_seed,
)
from ktransformer.errors import InputError
from ktransformer.models import Transformer
from ktransformer.numbers import to_integer
from ktransformer.saving.folder import DESCRIPTION
from ktransformer.saving.run import TARGET_TOKENIZER, check_model_of_run
from ktransformer.tasks.annotations import alignment_heads, annotate
from ktransformer.tasks.compilable_search import CompilableSearch
from ktransformer.tasks.controlled import controlled
from ktransformer.tasks.controls import Controls
from ktransformer.tasks.decoding_rules import to_rules
from ktransformer.tasks.decoding_steps import SOURCE_IDS, check_ids_of, decode_step, encode
from ktransformer.tasks.description import Description
from ktransformer.tasks.document_outputs import by_sentence
from ktransformer.tasks.documents import (
    count_pieces,
    least_tokens,
    locate_sentences,
    translate_documents,
)
from ktransformer.tasks.graph_function import graph_function, graph_method
from ktransformer.tasks.inputs import to_tensor
from ktransformer.tasks.registry import register_task
from ktransformer.tasks.search_task import TEXT_SIGNATURES, check_no_start
from ktransformer.tasks.shortlist import Shortlist
from ktransformer.tasks.span_copier import SpanCopier
from ktransformer.tasks.streaming import choose_next, stream_document, stream_tokens
from ktransformer.tasks.task import (
    LiteSignature,
    SignatureCheck,
    check_padding,
    check_pieces,
    check_type,
)
from ktransformer.tasks.terms import TERM_BONUSES, translate_with_terms
from ktransformer.tasks.transformer_search import StagedSearch, TransformerSearch
from ktransformer.tasks.translator_checks import adapt_checks, example_inputs, search_wider
from ktransformer.tasks.translator_description import TranslatorDescription
from ktransformer.tasks.translator_signatures import lite_signature
from ktransformer.tasks.written_texts import (
    cut_ids,
    decode_n_best,
    end_empty,
    first_best,
    has_no_token,
    lengths_of,
    prefix_id,
    score_labels,
    search_ids,
    search_texts,
    start_labels,
)
from ktransformer.text import BaseTokenizer, load_tokenizer
from ktransformer.text.copied_spans import CopiedSpans

_log = logging.getLogger(__name__)
_TEXTS = tf.TensorSpec([None], tf.string, "texts")


@register_task
class Translator(CompilableSearch):
    """Tokenizer, model and search in one; its methods are graphs from text, or ids, to the same.

    The same methods serve the BLEU callback, the commands and the exports. A text without any
    token (empty, or spaces alone) gives an empty text with a score of 0. A text of more than
    `max_source_length` tokens is cut there, and the result says so. Texts are given as a list, a
    NumPy array or a tensor of strings.

    Args:
        model: A trained `Transformer`, or a subclass of it; built here if it is not yet.
        tokenizer: Encodes the source, and decodes the target, too, without a `target_tokenizer`.
        decoding: The settings of the search. A beam size of 1 makes it greedy; a `tag`
            or `target_language` puts its token before every text.
        shortlist: Chooses the part of the vocabulary that a batch is searched in; None for all of
            it. `score` and `sample` use the whole vocabulary.
        rules: Decoding rules of every search and of `sample`, after those of `decoding`. A run's
            folder and an export's description do not name them.
        target_tokenizer: The tokenizer of the target: of another vocabulary, for a model with a
            `source_vocabulary_size`, or of another segmentation over the same ids (see
            `Tokenizer.from_table`). None for one tokenizer.

    Attributes:
        max_source_length: The longest source, in tokens, the end token included.
        max_target_length: The longest target, likewise.
        term_bonuses: How readily a term is begun; see `RequiredPhrases`.

    Raises:
        InputError: A tokenizer has another number of pieces or another padding than the model,
            `target_tokenizer` is None for a model with a `source_vocabulary_size`, the shortlist
            has other ids than the model, `decoding` allows texts longer than the model's
            `max_length`, or a subclass of the model overrides a method that cached decoding does
            not call, and not its counterpart; or there are `rules` and a `shortlist`.
        TypeError: `model` is no `Transformer`, or `tokenizer` no tokenizer.

    Example:
        ```python
        translator = Translator(
            run.model, run.tokenizer, run.config.decoding, target_tokenizer=run.target_tokenizer
        )
        translator.translate_texts(["Two dogs are running."])["text"]
        ```
    """

    description_class = TranslatorDescription
    kind = description_class.kind
    model_class = Transformer
    decoding_class = DecodingConfig
    LITE_ON_REQUEST = frozenset({"annotate", "controlled", "terms"})
    LITE_SIGNATURES = (
        *TEXT_SIGNATURES,
        "ids",
        "encode",
        "decode_step",
        "document",
        "sentences",
        *sorted(LITE_ON_REQUEST),
    )
    RAGGED = frozenset({"document", "sentences"})
    COMPILED = frozenset({"serving_default", "beam", "ids", "document"})
    SAVED_MODEL_ON_REQUEST = frozenset({"controlled", "terms"})
    OPTIONAL_FILES = (TARGET_TOKENIZER,)
    SETTINGS = (*(field.name for field in dataclasses.fields(DecodingConfig)), "shortlist")
    RANKED_BY: ClassVar[Mapping[str, str]] = {"text": "score", "ids": "score"}
    ARGMAX_OF: ClassVar[Mapping[str, str]] = {"alignment": "weights"}
    IDENTITY = (
        "tokenizer_sha256",
        "target_tokenizer_sha256",
        "vocabulary_size",
        "source_vocabulary_size",
    )
    model: Transformer
    decoding: DecodingConfig
    controlled = controlled
    term_bonuses = TERM_BONUSES
    translate_with_terms = translate_with_terms
    encode = encode
    decode_step = decode_step
    choose_next = graph_function(choose_next, reduce_retracing=True)

    def __init__(
        self,
        model: Transformer,
        tokenizer: BaseTokenizer,
        decoding: DecodingConfig | None = None,
        shortlist: Shortlist | None = None,
        *,
        rules: Sequence[Rule] = (),
        target_tokenizer: BaseTokenizer | None = None,
    ) -> None:
        super().__init__(model, tokenizer, decoding, rules, name="translator")
        if target_tokenizer is not None:
            check_type("target_tokenizer", target_tokenizer, BaseTokenizer)
            check_no_start(target_tokenizer)
        elif model.source_vocabulary_size is not None:
            raise InputError(
                "target_tokenizer must be given for a model with a vocabulary of each side; got "
                f"None, and source_vocabulary_size={model.source_vocabulary_size}."
            )
        self.target_tokenizer = target_tokenizer or tokenizer
        self.check_tokenizer()
        for each in self.tokenizers:
            check_padding(model, each)
        if shortlist is not None:
            shortlist.check(self.target_tokenizer.special_ids, self._sizes)
        self.shortlist = shortlist
        if self.rules and shortlist is not None:
            raise InputError(
                "rules must be empty with a shortlist, which numbers the tokens of a search anew; "
                f"got {self.rules[0]!r}."
            )
        self.max_source_length = self.decoding.max_source_length or model.max_length
        self.max_target_length = self.decoding.max_target_length or model.max_length
        self.decoding.check_lengths(model.max_length)
        alignment_heads(model, self.decoding)  # Checks that there are such heads.
        self._language = prefix_id(tokenizer, self.decoding)
        copy = self.decoding.copy
        self.copier = SpanCopier(copy, tokenizer) if copy else None

    def check_tokenizer(self) -> None:
        """Checks that the tokenizers have as many pieces as the model has ids on their sides.

        Override it where ids alone are translated.

        Raises:
            InputError: One has not.
        """
        source, target = self._sizes
        check_pieces(self.tokenizer, source)
        check_pieces(self.target_tokenizer, target, "target tokenizer")

    @property
    def _sizes(self) -> tuple[int, int]:
        """The numbers of ids of the source and of the target."""
        target = self.model.vocabulary_size
        return self.model.source_vocabulary_size or target, target

    @property
    def tokenizers(self) -> tuple[BaseTokenizer, ...]:
        shared = self.model.source_vocabulary_size is None
        if shared and self.target_tokenizer is self.tokenizer:
            return (self.tokenizer,)
        return self.tokenizer, self.target_tokenizer

    @property
    def texts_are_independent(self) -> bool:
        return self.shortlist is None

    def with_parts(self, *, shortlist: Shortlist | None = None, **others: Any) -> Self:
        if shortlist or self.shortlist:
            others["shortlist"] = shortlist or self.shortlist
        if len(self.tokenizers) > 1:
            others["target_tokenizer"] = self.target_tokenizer
        return super().with_parts(**others)

    def with_settings(self, *, shortlist: Shortlist | None = None, **decoding: Any) -> Self:
        """Returns the same translator with other fields of `DecodingConfig`, or a shortlist."""
        other = dataclasses.replace(self.decoding, **decoding)
        return self.with_parts(decoding=other, shortlist=shortlist)

    @graph_method(input_signature=[_TEXTS])
    def translate_texts(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]`.

        Returns:
            `text`, string `[B]`; `score`, float32 `[B]`, log-probability /
            length ** length_penalty, lowered by the coverage penalty, if there is one;
            `truncated`, boolean `[B]`, whether the text was cut.
        """
        texts, copied = self._take_out(texts)
        source, truncated = self._encode(texts)
        outputs = self._to_texts(Hypotheses(**self.find_best(source)), copied)
        return {**first_best(outputs), "truncated": truncated}

    @graph_method(input_signature=[_TEXTS])
    def translate_document(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates documents `[B]` sentence by sentence, and keeps all that is between them.

        See `documents.translate_documents`, which says what is returned.
        """
        return translate_documents(
            texts,
            self.translate_texts,
            self.count_tokens,
            max_tokens=self.max_source_length,
            least_tokens=least_tokens(self._language),
        )

    @graph_method(
        input_signature=[
            _TEXTS,
            tf.TensorSpec([], tf.int32, "reserved"),
            tf.TensorSpec([], tf.int32, "copied"),
        ]
    )
    def find_sentences(
        self, texts: tf.Tensor, reserved: tf.Tensor, copied: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Finds what is translated by itself in documents `[B]`, for any way to translate it.

        Args:
            texts: The documents.
            reserved: The tokens that each sentence leaves free, such as that of a tag before it.
            copied: 1 where what `copy` names counts as what stands in its place, as
                `translate_texts` reads it; 0 where it is read as it is, as by
                `translate_with_terms` and `controlled`. The same without `copy`.

        Returns:
            See `documents.locate_sentences`. With 0 and 1 these are the sentences that
            `translate_document` translates.
        """

        def count(parts: tf.Tensor) -> tf.Tensor:
            as_read = count_pieces(self.tokenizer, parts, self._language)
            return tf.where(
                copied > 0, self.count_tokens(parts) if self.copier else as_read, as_read
            )

        return locate_sentences(
            texts,
            count,
            max_tokens=self.max_source_length - reserved,
            least_tokens=least_tokens(self._language),
        )

    def stream(self, text: str | bytes) -> Iterator[str]:
        """Translates a document and yields its translation piece by piece, a sentence each.

        Args:
            text: The document. Of bytes that are not UTF-8 each is yielded as a surrogate, as
                Python's error handler `surrogateescape` makes them.

        Yields:
            What stands before a sentence, with its translation; at last what follows. All joined
            are the `text` that `translate_document` gives.
        """
        return stream_document(self, text)

    def count_tokens(self, texts: tf.Tensor) -> tf.Tensor:
        """Counts the tokens of texts `[B]`, the end and the language token included.

        A span that `copy` takes out counts as what stands in its place.
        """
        texts, _ = self._take_out(texts)
        return count_pieces(self.tokenizer, texts, self._language)

    @graph_method(input_signature=[_TEXTS])
    def beam(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]` into the K best hypotheses each, K being the beam size.

        Returns:
            `text`, string `[B, K]`, and `score`, float32 `[B, K]`, best first; `truncated`,
            boolean `[B]`.
        """
        texts, copied = self._take_out(texts)
        source, truncated = self._encode(texts)
        outputs = self._to_texts(self.run_search(source, self.decoding.beam_size), copied)
        return {**outputs, "truncated": truncated}

    @graph_method(
        input_signature=[
            tf.TensorSpec([None], tf.string, "source"),
            tf.TensorSpec([None], tf.string, "target"),
        ]
    )
    def score(self, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores target texts `[B]` as translations of source texts `[B]`.

        Returns:
            `log_probability`, float32 `[B]`, of the target with its end token; `tokens`, int32
            `[B]`, the number of its tokens; `truncated`, boolean `[B]`, whether either was cut.
        """
        sources, source_cut = self._encode(source)
        labels, target_cut = self.target_tokenizer.encode_dense(target, self.max_target_length)
        special = self.target_tokenizer.special_ids
        inputs = start_labels(labels, special.start)
        logits = self.model({"source": sources, "target": inputs}, training=False)
        scores = score_labels(labels, logits, special.pad)
        return {**scores, "truncated": source_cut | target_cut}

    @graph_method(
        input_signature=[
            tf.TensorSpec([None], tf.string, "source"),
            tf.TensorSpec([None], tf.string, "target"),
        ]
    )
    def annotate(self, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores and aligns each token of target texts `[B]`, translations of source texts `[B]`.

        Returns:
            What `annotations.annotate` returns of their tokens, and `truncated`, boolean `[B]`,
            whether either text was cut.
        """
        sources, source_cut = self._encode(source)
        labels, target_cut = self.target_tokenizer.encode_dense(target, self.max_target_length)
        return {**annotate(self, sources, labels), "truncated": source_cut | target_cut}

    def sample(
        self,
        texts: tf.Tensor,
        seed: int = 0,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        length_penalty: float = 1.0,
    ) -> dict[str, tf.Tensor]:
        """Draws a translation of each text instead of searching for the best.

        Every other set of options is traced anew.

        Args:
            texts: Strings `[B]`.
            seed: The same seed gives the same texts; any integer, of which 64 bits count.
            temperature: Divides the logits; see `decoding.Temperature`.
            top_k: Draws from the k most probable tokens; 0 for all. See `decoding.TopK`.
            top_p: Draws from the most probable tokens that reach this probability; see
                `decoding.TopP`.
            min_p: Draws from the tokens that have at least this share of the best one's
                probability; see `decoding.MinP`.
            length_penalty: Exponent of the length in the score.

        Returns:
            `text`, string `[B]`, and `score`, float32 `[B]`.

        Raises:
            InputError: An argument is of another type or outside its range.
        """
        sampling_rules(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)  # Checks.
        LengthPenalty(length_penalty)
        # By place and as Python numbers: TensorFlow compares the calls of a function.
        options = (float(temperature), int(top_k), float(top_p), float(min_p))
        return self._sample(
            to_tensor("texts", texts, _TEXTS), to_seed(seed), *options, float(length_penalty)
        )

    @functools.partial(graph_function, reduce_retracing=True)
    def _sample(
        self,
        texts: tf.Tensor,
        seed: tf.Tensor,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        length_penalty: float,
    ) -> dict[str, tf.Tensor]:
        texts, copied = self._take_out(texts)
        source = self.to_ids(texts)
        options = sampling_rules(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        decoding = dataclasses.replace(self.decoding, length_penalty=length_penalty)
        drawn = sample(
            TransformerSearch(self.model, source),
            self.find_limits(source),
            self.special_search_ids(),
            seed=seed,
            score_forced_end=self.decoding.score_forced_end,
            rules=(*self.find_rules(decoding, source), *options),
        )
        outputs = self._to_texts(self.end_empty(source, drawn), copied)
        return {name: values[:, 0] for name, values in outputs.items()}

    def translate_controlled(self, texts: tf.Tensor, **options: Any) -> dict[str, tf.Tensor]:
        """Translates texts `[B]` as a request asks: `controlled` with checked options.

        Args:
            texts: Strings `[B]`.
            **options: Fields of `Controls`; one that is not given is the translator's own.

        Returns:
            See `controlled`.

        Raises:
            InputError: An option is of another type or out of its range, or a prefix is given and
                the translator copies spans.
        """
        controls = Controls(**options)
        controls.check_n_best(self.decoding.beam_size)
        controls.check_copy(self.decoding.copy)
        given = to_tensor("texts", texts, _TEXTS).numpy()
        outputs: dict[str, tf.Tensor] = self.controlled(**controls.to_inputs(given))
        return outputs

    def stream_tokens(self, text: str, *, prefix: str = "") -> Iterator[str]:
        """Yields the greedy translation of a text as it grows; see `streaming.stream_tokens`."""
        return stream_tokens(self, text, prefix=prefix)

    @property
    def has_language(self) -> bool:
        """Whether the token of a `target_language` is the first of every source."""
        return self._language is not None

    def to_ids(self, texts: tf.Tensor) -> tf.Tensor:
        """Turns texts `[B]` into ids `[B, S]`, cut to `max_source_length`, ended and padded.

        The token of the `tag` or `target_language`, if there is one, is the first.
        """
        return self._encode(to_tensor("texts", texts, _TEXTS))[0]

    def _encode(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.tokenizer.encode_dense(texts, self.max_source_length, language=self._language)

    def _take_out(self, texts: tf.Tensor) -> tuple[tf.Tensor, CopiedSpans | None]:
        """Takes out what `copy` names; `_put_back` puts it back."""
        return (texts, None) if self.copier is None else self.copier.take_out(texts)

    def _to_texts(self, best: Hypotheses, copied: CopiedSpans | None) -> dict[str, tf.Tensor]:
        texts = decode_n_best(self.target_tokenizer, best.ids)
        return {"text": self._put_back(texts, copied), "score": best.scores}

    def _put_back(self, texts: tf.Tensor, copied: CopiedSpans | None) -> tf.Tensor:
        """Puts back what `_take_out` took out of B texts: string `[B, K]`, alike."""
        if self.copier is None or copied is None:
            return texts
        return self.copier.put_back(texts, copied)

    @graph_method(input_signature=[SOURCE_IDS], check=check_ids_of)
    def ids(self, source: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates source ids `[B, S]`, ended and padded, for callers with a tokenizer.

        With a `tag` or `target_language`, they begin with its token, as `to_ids` returns them. Ids
        over `max_source_length` are cut there and ended, as texts are. Ids that the model does
        not have are refused; within a graph and in an export they are not looked at: there, a
        negative id counts from the vocabulary's end, and one beyond it is an error or, on a GPU, a
        vector of zeros; compiled, it is the last one.

        Returns:
            `ids`, int32 `[B, T]`, ended and padded; `score`, float32 `[B]`; `truncated`, int32
            `[B]`, 1 where the source was cut: not every runtime takes booleans.
        """
        best = self.find_best(self.cut(source))
        truncated = tf.cast(
            lengths_of(source, self.model.pad_id) > self.max_source_length, tf.int32
        )
        return {"ids": best["ids"][:, 0], "score": best["scores"][:, 0], "truncated": truncated}

    def cut(self, source: tf.Tensor) -> tf.Tensor:
        """Cuts source ids `[B, S]` to `max_source_length`, the end token included."""
        return cut_ids(source, self.max_source_length, self.tokenizer.special_ids)

    def search(
        self,
        source: tf.Tensor,
        n_best: int | tf.Tensor = 1,
        *,
        rules: Sequence[Rule] | None = None,
        limits: tf.Tensor | None = None,
        staged: bool = False,
    ) -> Hypotheses:
        """Finds the `n_best` target sequences of source ids `[B, S]`.

        Args:
            source: The ids.
            n_best: At most the beam size; an int32 scalar tensor must be within the range.
            rules: Other rules than the translator's; None for these.
            limits: Int32 `[B]`, other limits than `find_limits` gives.
            staged: Whether it goes on in stages, as XLA needs it: without a shortlist.
        """
        if not tf.is_tensor(n_best):
            n_best = to_integer("n_best", n_best, least=1, most=self.decoding.beam_size)
        chosen = None if self.shortlist is None else self.shortlist.choose(source)
        model = TransformerSearch(self.model, source, chosen)
        limits = self.find_limits(source) if limits is None else limits
        if staged:
            longest = self._limit(tf.shape(source)[1])
            model = StagedSearch(self.model, source, longest, self.output_columns)
        best = search_texts(
            model,
            limits,
            (self.shortlist or self.target_tokenizer).special_ids,
            self.decoding,
            n_best=n_best,
            rules=self.find_rules(source=source) if rules is None else rules,
            # A shortlist has no such ids: no training text has them in its targets.
            unwritten=self.target_tokenizer.unwritten_ids if chosen is None else (),
        )
        if chosen is not None:
            best = best._replace(ids=tf.gather(chosen, best.ids))
        return self.end_empty(source, best)

    def find_rules(self, decoding: Any = None, source: tf.Tensor | None = None) -> tuple[Rule, ...]:
        """Returns the rules of the settings, or of other settings, and those of the translator.

        Args:
            decoding: Other settings; None for the translator's.
            source: Int32 `[B, S]`, the ids of a search, for `max_repeats`; see `to_rules`.
        """
        return (*to_rules(decoding or self.decoding, source, self.model.pad_id), *self.rules)

    def special_search_ids(self) -> SpecialIds:
        """Returns the special ids of a search in the whole vocabulary."""
        target = self.target_tokenizer
        return search_ids(target.special_ids, self.decoding, target.unwritten_ids)

    def end_empty(self, source: tf.Tensor, best: Hypotheses) -> Hypotheses:
        """Replaces the hypotheses of sources without a token; see `written_texts.end_empty`."""
        return end_empty(source, best, self.target_tokenizer.special_ids, self._language)

    def find_limits(self, source: tf.Tensor) -> tf.Tensor:
        """Returns the most tokens of each target, the end token included: `[B, S] -> [B]`.

        A source without a token has the end token alone.
        """
        pad_id = self.model.pad_id
        empty = has_no_token(source, pad_id, self._language)
        return tf.where(empty, 1, self._limit(lengths_of(source, pad_id)))

    def _limit(self, lengths: tf.Tensor) -> tf.Tensor:
        """Returns the most tokens of the targets of sources with so many tokens."""
        return length_limits(
            lengths,
            ratio=self.decoding.max_length_ratio,
            offset=self.decoding.max_length_offset,
            maximum=self.max_target_length,
        )

    # Its exports.

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {
            "serving_default": self.translate_texts,
            "beam": self.beam,
            "score": self.score,
            "ids": self.ids,
            "document": self.translate_document,
            "sentences": self.find_sentences,
            "annotate": self.annotate,
            "controlled": self.controlled,
            "terms": self.translate_with_terms,
        }

    def signatures_on_request(self) -> frozenset[str]:
        """Those of `SAVED_MODEL_ON_REQUEST`, and `annotate` of a model that gives no weights."""
        alignment_heads(self.model, self.decoding)  # Raises where the settings do not fit.
        try:
            self.annotate.get_concrete_function()
        except InputError as error:  # A subclass whose attention weights are not known.
            _log.warning("The export has no signature annotate: %s", error)
            return super().signatures_on_request() | {"annotate"}
        return super().signatures_on_request()

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        """Returns one of `LITE_SIGNATURES`; see `Task`.

        With a fixed batch, sources are padded to `max_source_length`, and ids given padded to
        `max_target_length`.
        """
        return lite_signature(self, name, batch_size)

    def probe(self, signature: str) -> Mapping[str, tf.Tensor] | None:
        # Both take texts with their translations.
        return super().probe("annotate" if signature == "score" else signature)

    def describe(self, signatures: Sequence[str], **others: Any) -> TranslatorDescription:
        return super().describe(
            signatures,
            source_vocabulary_size=self.model.source_vocabulary_size,
            max_source_length=self.max_source_length,
            max_target_length=self.max_target_length,
            decoding=self.decoding,
            shortlist=None if self.shortlist is None else self.shortlist.size,
            special_ids=self.special_search_ids()._asdict(),
            target_tokenizer_sha256=(
                self.target_tokenizer.sha256 if len(self.tokenizers) > 1 else None
            ),
            characters=self.tokenizer.characters,
            symbols=dict(self.tokenizer.symbols),
            **others,
        )

    def by_choice(self, signature: str, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        if signature != "document":
            return super().by_choice(signature, outputs)
        return by_sentence(outputs)

    def search_wider(self, signature: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = search_wider(self, signature, inputs)
        return super().search_wider(signature, inputs) if found is None else found

    # Its folder.

    @classmethod
    def check_model_config(cls, model_config: dict[str, Any], config: dict[str, Any]) -> None:
        check_model_of_run(model_config, config)

    @classmethod
    def from_folder(cls, model: Transformer, folder: Path, config: dict[str, Any]) -> Self:
        if "decoding" not in config:
            raise InputError(
                f"{folder} is not a whole folder of a translator: {DESCRIPTION} is missing, or has "
                "no decoding settings."
            )
        tokenizer = load_tokenizer(folder / cls.FILES[0])
        target = folder / TARGET_TOKENIZER
        decoding = Config.from_dict(config).decoding
        if not target.is_file():
            return cls(model, tokenizer, decoding)
        return cls(model, tokenizer, decoding, target_tokenizer=load_tokenizer(target))

    # How its exports are verified.

    @classmethod
    def settings_of(cls, export: Any) -> dict[str, Any]:
        lengths = ("max_source_length", "max_target_length")
        return {**super().settings_of(export), **{name: getattr(export, name) for name in lengths}}

    def signature_checks(self, export: Description, form: str) -> list[SignatureCheck]:
        """Returns how `verify` compares an export; see `translator_checks.adapt_checks`."""
        return adapt_checks(self, super().signature_checks(export, form))

    def example_inputs(
        self, signature: str, examples: Sequence[str], batch_size: int | None
    ) -> dict[str, np.ndarray]:
        """Returns the inputs of a signature; see `SearchTask`.

        For `score` and `annotate`, each text stands as its own translation.
        """
        return example_inputs(self, signature, examples, batch_size)
