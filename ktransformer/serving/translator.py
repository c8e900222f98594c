"""The translator: text in, text out, in TensorFlow graphs."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import tensorflow as tf

from ktransformer.config import DecodingConfig
from ktransformer.decoding import (
    Hypotheses,
    SpecialIds,
    beam_search,
    greedy_search,
    length_limits,
    sample,
)
from ktransformer.errors import InputError
from ktransformer.losses import smoothed_cross_entropy, token_weights
from ktransformer.models import Transformer
from ktransformer.serving.description import TranslatorDescription
from ktransformer.serving.servable import LiteSignature, Servable
from ktransformer.serving.translator_lite import TRANSLATOR_SIGNATURES, translator_lite_signature
from ktransformer.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, Tokenizer

SPECIAL_IDS = SpecialIds(
    start=START_ID, end=END_ID, pad=PAD_ID, suppressed=(PAD_ID, START_ID, UNKNOWN_ID)
)
_TEXTS = tf.TensorSpec([None], tf.string, "texts")
_IDS = tf.TensorSpec([None, None], tf.int32, "source")


class Translator(Servable):
    """Tokenizer, model and search in one: every method is a graph from text to text.

    The same methods serve the BLEU callback, the commands and the exports. A text without any
    token (empty, or spaces alone) gives an empty text with a score of 0. A text of more than
    `max_source_length` tokens is cut there, and the result says so. Keep a translator in a
    variable: a `tf.function` does not keep its object alive.

    Args:
        model: A trained `Transformer`, or a subclass of it; built here if it is not yet.
        tokenizer: Its tokenizer.
        decoding: How to search. A beam size of 1 makes `translate` greedy.

    Attributes:
        max_source_length: The longest source, in tokens, the end token included.
        max_target_length: The longest target, likewise.

    Raises:
        InputError: `decoding` allows texts longer than the model's `max_length`.

    Example:
        ```python
        translator = Translator(run.model, run.tokenizer, run.config.decoding)
        translator.translate(tf.constant(["Two dogs are running."]))["text"]
        ```
    """

    kind = TranslatorDescription.kind
    LITE_SIGNATURES = TRANSLATOR_SIGNATURES
    model: Transformer
    tokenizer: Tokenizer

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, decoding: DecodingConfig | None = None
    ) -> None:
        super().__init__(model, tokenizer, name="translator")
        if not model.built:
            model.build()
        self.decoding = decoding or DecodingConfig()
        self.max_source_length = self.decoding.max_source_length or model.max_length
        self.max_target_length = self.decoding.max_target_length or model.max_length
        for side in ("source", "target"):
            length = getattr(self, f"max_{side}_length")
            if length > model.max_length:
                raise InputError(
                    f"max_{side}_length must be at most the model's max_length, "
                    f"{model.max_length}; got {length}."
                )

    def saved_model_signatures(self) -> dict[str, Callable[..., Any]]:
        return {
            "serving_default": self.translate,
            "beam": self.beam,
            "score": self.score,
            "ids": self.ids,
        }

    def lite_signature(self, name: str, batch_size: int | None) -> LiteSignature:
        return translator_lite_signature(self, name, batch_size)

    def describe(self, signatures: Sequence[str], **others: Any) -> TranslatorDescription:
        return TranslatorDescription(
            signatures=tuple(signatures),
            vocabulary_size=self.tokenizer.vocabulary_size,
            max_source_length=self.max_source_length,
            max_target_length=self.max_target_length,
            decoding=self.decoding,
            special_ids=SPECIAL_IDS._asdict(),
            tokenizer_sha256=self.tokenizer.sha256,
            **others,
        )

    def with_model(self, model: Transformer) -> Self:
        return type(self)(model, self.tokenizer, self.decoding)

    @tf.function(input_signature=[_TEXTS])
    def translate(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]`.

        Returns:
            `text`, string `[B]`; `score`, float32 `[B]`, log-probability /
            length ** length_penalty; `truncated`, boolean `[B]`, whether the text was cut.
        """
        outputs = self._translate_n_best(texts, n_best=1)
        return {**outputs, "text": outputs["text"][:, 0], "score": outputs["score"][:, 0]}

    @tf.function(input_signature=[_TEXTS])
    def beam(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates texts `[B]` into the K best hypotheses each, K being the beam size.

        Returns:
            `text`, string `[B, K]`, and `score`, float32 `[B, K]`, best first; `truncated`,
            boolean `[B]`.
        """
        return self._translate_n_best(texts, n_best=self.decoding.beam_size)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "source"),
            tf.TensorSpec([None], tf.string, "target"),
        ]
    )
    def score(self, source: tf.Tensor, target: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores target texts `[B]` as translations of source texts `[B]`.

        Returns:
            `log_probability`, float32 `[B]`, of the target with its end token; `tokens`, int32
            `[B]`, how many tokens that is; `truncated`, boolean `[B]`, whether either was cut.
        """
        sources, source_cut = self.tokenizer.encode_dense(source, self.max_source_length)
        labels, target_cut = self.tokenizer.encode_dense(target, self.max_target_length)
        start = tf.fill([tf.shape(labels)[0], 1], START_ID)
        inputs = tf.concat([start, labels[:, :-1]], axis=1)
        logits = self.model({"source": sources, "target": inputs}, training=False)
        weights = token_weights(labels, PAD_ID)
        losses = smoothed_cross_entropy(labels, logits)
        return {
            "log_probability": -tf.reduce_sum(losses * weights, axis=1),
            "tokens": tf.cast(tf.reduce_sum(weights, axis=1), tf.int32),
            "truncated": source_cut | target_cut,
        }

    @tf.function(input_signature=[_IDS])
    def ids(self, source: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates source ids `[B, S]`, ended and padded, for callers with a tokenizer.

        Ids over `max_source_length` are cut there and ended, as texts are.

        Returns:
            `ids`, int32 `[B, T]`, ended and padded; `score`, float32 `[B]`; `truncated`, int32
            `[B]`, 1 where the source was cut: not every runtime takes booleans.
        """
        best = self.search(self._cut(source))
        truncated = tf.cast(_lengths(source) > self.max_source_length, tf.int32)
        return {"ids": best.ids[:, 0], "score": best.scores[:, 0], "truncated": truncated}

    @tf.function(input_signature=[_IDS])
    def encode(self, source: tf.Tensor) -> dict[str, tf.Tensor]:
        """Starts the decoding of source ids `[B, S]`, for callers who drive the loop.

        Returns:
            `limits`, int32 `[B]`, the most tokens of each target; `memory_0`, `memory_1`, ...,
            what the decoder looks at, booleans as int32, which more runtimes take; `cache_0`,
            `cache_1`, ..., its cache for `max_target_length` tokens of one hypothesis a text:
            zeros. A beam repeats the rows of the cache.
        """
        source = self._cut(source)
        memory = self.model.prepare_memory(source)
        cache = self.model.empty_cache(tf.shape(source)[0], self.max_target_length)
        memory = tf.nest.map_structure(_without_booleans, memory)
        return {
            "limits": self._limits(source),
            **_numbered("memory", memory),
            **_numbered("cache", cache),
        }

    def decode_step(
        self, ids: tf.Tensor, index: tf.Tensor, **state: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Predicts the token after the newest one, for callers who drive the loop.

        Args:
            ids: Int32 `[N]`, the newest token of every hypothesis; the start token at first.
            index: Int32 scalar, its position, from 0.
            **state: The `memory_*` that `encode` returned, and the `cache_*` that it or the last
                step returned.

        Returns:
            `logits`, float32 `[N, V]`, and the next `cache_0`, `cache_1`, ...
        """
        like, cache = self._state_structure()
        memory = tf.nest.pack_sequence_as(like, _values(state, "memory"))
        memory = tf.nest.map_structure(lambda new, old: tf.cast(new, old.dtype), memory, like)
        cache = tf.nest.pack_sequence_as(cache, _values(state, "cache"))
        logits, cache = self.model.step(ids, index, cache, memory)
        return {"logits": tf.cast(logits, tf.float32), **_numbered("cache", cache)}

    def _state_structure(self) -> tuple[Any, Any]:
        """Returns some source's memory and cache, for how this model nests its tensors."""
        with tf.init_scope():  # Eagerly, outside the graph that is being traced.
            memory = self.model.prepare_memory(tf.constant([[START_ID, END_ID]]))
            return memory, self.model.empty_cache(1, 1)

    def sample(self, texts: tf.Tensor, seed: int = 0, **options: Any) -> dict[str, tf.Tensor]:
        """Draws a translation of each text instead of searching for the best.

        Args:
            texts: Strings `[B]`.
            seed: The same seed gives the same texts.
            **options: `temperature`, `top_k` and `top_p` of `ktransformer.decoding.sample`.

        Returns:
            `text`, string `[B]`, and `score`, float32 `[B]`.
        """
        return self._sample(tf.constant(texts), tf.constant(seed), **options)

    @tf.function
    def _sample(self, texts: tf.Tensor, seed: tf.Tensor, **options: Any) -> dict[str, tf.Tensor]:
        source = self.to_ids(texts)
        memory, cache, limits = self._prepare(source, beam_size=1)
        drawn = sample(self._step(memory), cache, limits, SPECIAL_IDS, seed=seed, **options)
        outputs = self._to_texts(_end_empty(source, drawn))
        return {name: values[:, 0] for name, values in outputs.items()}

    def to_ids(self, texts: tf.Tensor) -> tf.Tensor:
        """Turns texts `[B]` into ids `[B, S]`, cut to `max_source_length`, ended and padded."""
        return self.tokenizer.encode_dense(texts, self.max_source_length)[0]

    def _cut(self, source: tf.Tensor) -> tf.Tensor:
        """Cuts ids `[B, S]` to `max_source_length`, the last of them being the end token."""
        limit = self.max_source_length
        last = tf.where(source[:, limit - 1 : limit] == PAD_ID, PAD_ID, END_ID)
        return tf.concat([source[:, : limit - 1], last], axis=1)

    def search(self, source: tf.Tensor, n_best: int = 1) -> Hypotheses:
        """Finds the `n_best` target sequences of source ids `[B, S]`."""
        beam_size, penalty = self.decoding.beam_size, self.decoding.length_penalty
        memory, cache, limits = self._prepare(source, beam_size)
        step = self._step(memory)
        if beam_size == 1:
            best = greedy_search(step, cache, limits, SPECIAL_IDS, length_penalty=penalty)
        else:
            best = beam_search(
                step,
                cache,
                limits,
                SPECIAL_IDS,
                beam_size=beam_size,
                n_best=n_best,
                length_penalty=penalty,
            )
        return _end_empty(source, best)

    def _prepare(self, source: tf.Tensor, beam_size: int) -> tuple[Any, Any, tf.Tensor]:
        """Encodes the source: the memory, the first cache, and the length limits `[B]`."""
        limits = self._limits(source)
        memory = self.model.prepare_memory(source)
        cache = self.model.empty_cache(tf.shape(source)[0] * beam_size, _longest(limits))
        return memory, cache, limits

    def _limits(self, source: tf.Tensor) -> tf.Tensor:
        return length_limits(
            _lengths(source),
            ratio=self.decoding.max_length_ratio,
            offset=self.decoding.max_length_offset,
            maximum=self.max_target_length,
        )

    def _step(self, memory: Any) -> Callable[..., tuple[tf.Tensor, Any]]:
        """Makes the step function of a search that looks at `memory`."""

        def step(ids: tf.Tensor, index: tf.Tensor, cache: Any) -> tuple[tf.Tensor, Any]:
            return self.model.step(ids, index, cache, memory)

        return step

    def _translate_n_best(self, texts: tf.Tensor, n_best: int) -> dict[str, tf.Tensor]:
        source, truncated = self.tokenizer.encode_dense(texts, self.max_source_length)
        return {**self._to_texts(self.search(source, n_best)), "truncated": truncated}

    def _to_texts(self, best: Hypotheses) -> dict[str, tf.Tensor]:
        shape = tf.shape(best.ids)  # [B, K, T]
        texts = self.tokenizer.decode(tf.reshape(best.ids, [-1, shape[2]]))
        return {"text": tf.reshape(texts, shape[:2]), "score": best.scores}


def _numbered(name: str, state: Any) -> dict[str, tf.Tensor]:
    """Names the tensors of a nest `name_0`, `name_1`, ..."""
    return {f"{name}_{i}": tensor for i, tensor in enumerate(tf.nest.flatten(state))}


def _without_booleans(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tensor, tf.int32) if tensor.dtype == tf.bool else tensor


def _values(state: dict[str, tf.Tensor], name: str) -> list[tf.Tensor]:
    """Returns `name_0`, `name_1`, ... in that order."""
    count = sum(key.startswith(f"{name}_") for key in state)
    return [state[f"{name}_{i}"] for i in range(count)]


def _longest(lengths: tf.Tensor) -> tf.Tensor:
    """Returns the greatest of the lengths `[B]`; 1 for an empty batch."""
    return tf.reduce_max(tf.concat([lengths, [1]], axis=0))


def _end_empty(source: tf.Tensor, best: Hypotheses) -> Hypotheses:
    """Replaces what was found for sources without a token by the end token alone."""
    empty = tf.expand_dims(_lengths(source) <= 1, 1)  # [B, 1]
    at_start = tf.range(tf.shape(best.ids)[2]) == 0  # [T]
    return Hypotheses(
        ids=tf.where(tf.expand_dims(empty, 2), tf.where(at_start, END_ID, PAD_ID), best.ids),
        scores=tf.where(empty, 0.0, best.scores),
        lengths=tf.where(empty, 1, best.lengths),
    )


def _lengths(ids: tf.Tensor) -> tf.Tensor:
    """Counts the tokens of padded ids: `[B, S] -> [B]`."""
    return tf.reduce_sum(tf.cast(ids != PAD_ID, tf.int32), axis=1)
