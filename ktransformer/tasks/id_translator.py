"""The translator of ids: from source ids to target ids, whole or a step at a time."""

from typing import Any, Self

import tensorflow as tf

from ktransformer.config import DecodingConfig
from ktransformer.decoding import (
    Hypotheses,
    SearchModel,
    SpecialIds,
    beam_search,
    greedy_search,
    length_limits,
)
from ktransformer.errors import InputError
from ktransformer.models import Transformer, check_decoding
from ktransformer.models.decoding_check import check_decoder_overrides
from ktransformer.numbers import to_integer
from ktransformer.tasks.graph_function import graph_method
from ktransformer.tasks.inputs import check_ids, to_tensor
from ktransformer.tasks.servable import Servable, check_padding, check_pieces, check_type
from ktransformer.tasks.shortlist import Shortlist
from ktransformer.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID, Tokenizer

SPECIAL_IDS = SpecialIds(
    start=START_ID, end=END_ID, pad=PAD_ID, suppressed=(PAD_ID, START_ID, UNKNOWN_ID)
)
_IDS = tf.TensorSpec([None, None], tf.int32, "source")
_NEWEST, _INDEX = tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)


def _check_ids(translator: "IdTranslator", name: str, ids: tf.Tensor) -> None:
    check_ids(name, ids.numpy(), translator.model.vocabulary_size)


class IdTranslator(Servable):
    """Model and search in one: the part of a `Translator` that knows no text.

    Args:
        model: A trained `Transformer`, or a subclass of it; built here if it is not yet.
        tokenizer: The tokenizer that the ids belong to.
        decoding: How to search; see `Translator`.
        shortlist: What chooses the part of the vocabulary to search in; None for all of it.

    Attributes:
        max_source_length: The longest source, in tokens, the end token included.
        max_target_length: The longest target, likewise.

    Raises:
        InputError: The tokenizer has another number of pieces or another padding than the model,
            `decoding` allows texts longer than the model's `max_length`, or a subclass overrides a
            method that cached decoding does not call, and not its counterpart.
        TypeError: `model` is no `Transformer`, or `tokenizer` no `Tokenizer`.
    """

    model: Transformer
    tokenizer: Tokenizer

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        decoding: DecodingConfig | None = None,
        shortlist: Shortlist | None = None,
    ) -> None:
        check_type("model", model, Transformer)
        check_type("tokenizer", tokenizer, Tokenizer)
        super().__init__(model, tokenizer, name="translator")
        self.check_tokenizer()
        check_padding(model)
        if not model.built:
            model.build()
        try:
            check_decoder_overrides(model)
        except NotImplementedError as error:
            raise InputError(str(error)) from error
        self.decoding = decoding or DecodingConfig()
        self.shortlist = shortlist
        self.max_source_length = self.decoding.max_source_length or model.max_length
        self.max_target_length = self.decoding.max_target_length or model.max_length
        self.decoding.check_lengths(model.max_length)

    def check_tokenizer(self) -> None:
        """Refuses the tokenizer of another model; override it where ids alone are translated."""
        check_pieces(self.tokenizer, self.model.vocabulary_size)

    def check_before_export(self) -> None:
        """Compares cached decoding with whole calls; see `check_decoding`."""
        try:
            check_decoding(self.model, columns=self.shortlist is not None)
        except ValueError as error:
            raise InputError(str(error)) from error

    @property
    def texts_are_independent(self) -> bool:
        return self.shortlist is None

    def with_model(self, model: Transformer) -> Self:
        return type(self)(model, self.tokenizer, self.decoding, self.shortlist)

    @graph_method(input_signature=[_IDS], check=_check_ids)
    def ids(self, source: tf.Tensor) -> dict[str, tf.Tensor]:
        """Translates source ids `[B, S]`, ended and padded, for callers with a tokenizer.

        Ids over `max_source_length` are cut there and ended, as texts are. Ids that the model does
        not have are refused; within a graph and in an export they are not looked at: there, a
        negative id counts from the vocabulary's end, and one beyond it is an error or, on a GPU, a
        vector of zeros.

        Returns:
            `ids`, int32 `[B, T]`, ended and padded; `score`, float32 `[B]`; `truncated`, int32
            `[B]`, 1 where the source was cut: not every runtime takes booleans.
        """
        best = self.search(self._cut(source))
        truncated = tf.cast(lengths_of(source) > self.max_source_length, tf.int32)
        return {"ids": best.ids[:, 0], "score": best.scores[:, 0], "truncated": truncated}

    @graph_method(input_signature=[_IDS], check=_check_ids)
    def encode(self, source: tf.Tensor) -> dict[str, tf.Tensor]:
        """Starts the decoding of source ids `[B, S]`, for callers who drive the loop.

        Returns:
            `limits`, int32 `[B]`, the most tokens of each target; `memory_0`, `memory_1`, ...,
            what the decoder looks at; `cache_0`, `cache_1`, ..., its state for
            `max_target_length` tokens of one hypothesis a text. A beam repeats the rows of all.
        """
        source = self._cut(source)
        memory = self.model.prepare_memory(source)
        cache = self.model.empty_state(tf.shape(source)[0], self.max_target_length)
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

        Raises:
            InputError: Part of the state is missing or unknown, or, outside of a graph, an id or
                the position is one that the model does not have; for a graph see `ids`.
        """
        memory, cache = self._state_structure()
        _check_names(state, {**_numbered("memory", memory), **_numbered("cache", cache)})
        ids, index = to_tensor("ids", ids, _NEWEST), to_tensor("index", index, _INDEX)
        if not tf.is_symbolic_tensor(ids):
            _check_ids(self, "ids", ids)
        if not tf.is_symbolic_tensor(index):
            to_integer("index", int(index), least=0, most=self.max_target_length - 1)
        memory = tf.nest.pack_sequence_as(memory, _values(state, "memory"))
        cache = tf.nest.pack_sequence_as(cache, _values(state, "cache"))
        logits, cache = self.model.step(ids, index, cache, memory)
        return {"logits": tf.cast(logits, tf.float32), **_numbered("cache", cache)}

    def _state_structure(self) -> tuple[Any, Any]:
        """Returns some source's memory and state, for how this model nests its tensors."""
        with tf.init_scope():  # Eagerly, outside the graph that is being traced.
            memory = self.model.prepare_memory(tf.constant([[START_ID, END_ID]]))
            return memory, self.model.empty_state(1, 1)

    def _cut(self, source: tf.Tensor) -> tf.Tensor:
        """Cuts ids `[B, S]` to `max_source_length`, the last of them being the end token."""
        limit = self.max_source_length
        last = tf.where(source[:, limit - 1 : limit] == PAD_ID, PAD_ID, END_ID)
        return tf.concat([source[:, : limit - 1], last], axis=1)

    def search(self, source: tf.Tensor, n_best: int = 1) -> Hypotheses:
        """Finds the `n_best` target sequences of source ids `[B, S]`."""
        beam_size, penalty = self.decoding.beam_size, self.decoding.length_penalty
        n_best = to_integer("n_best", n_best, least=1, most=beam_size)
        chosen = None if self.shortlist is None else self.shortlist.choose(source)
        limits, model = self._limits(source), TransformerSearch(self.model, source, chosen)
        if beam_size == 1:
            best = greedy_search(model, limits, SPECIAL_IDS, length_penalty=penalty)
        else:
            best = beam_search(
                model,
                limits,
                SPECIAL_IDS,
                beam_size=beam_size,
                n_best=n_best,
                length_penalty=penalty,
            )
        if chosen is not None:
            best = best._replace(ids=tf.gather(chosen, best.ids))
        return end_empty(source, best)

    def _limits(self, source: tf.Tensor) -> tf.Tensor:
        return length_limits(
            lengths_of(source),
            ratio=self.decoding.max_length_ratio,
            offset=self.decoding.max_length_offset,
            maximum=self.max_target_length,
        )


class TransformerSearch(SearchModel):
    """What a search drives to translate: a `Transformer` and the memory of its sources.

    The hypotheses of a sentence share one cache, in which nothing is moved when the search
    reorders them: only what each of them may see of it is.

    Args:
        model: The model.
        source: Int32 `[B, S]`.
        chosen: Int32 `[C]`, ids to search in, ascending and the special ones among them, so that
            these keep their numbers; the search's ids are places in it. None for all.
    """

    def __init__(
        self, model: Transformer, source: tf.Tensor, chosen: tf.Tensor | None = None
    ) -> None:
        self._model = model
        self._source = source
        self._chosen = chosen
        self._columns = None if chosen is None else model.output_columns(chosen)

    def start(self, beam_size: int) -> Any:
        rows = tf.shape(self._source)[0]
        state = self._model.empty_state(rows, self.chunk, beam_size=beam_size, chunked=True)
        return {"memory": self._model.prepare_memory(self._source), "decoder": state}

    def step(
        self, ids: tf.Tensor, index: tf.Tensor, state: Any, parents: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        decoder = state["decoder"]
        if parents is not None:
            penalty = (tf.gather(part, parents, batch_dims=1) for part in decoder.penalty)
            decoder = decoder._replace(penalty=decoder.penalty._make(penalty))
        if self._chosen is not None:
            ids = tf.gather(self._chosen, ids)
        logits, decoder = self._model.step(ids, index, decoder, state["memory"], self._columns)
        return logits, {**state, "decoder": decoder}

    def flush(self, state: Any) -> Any:
        return {**state, "decoder": state["decoder"].flush()}


def _numbered(name: str, state: Any) -> dict[str, tf.Tensor]:
    """Names the tensors of a nest `name_0`, `name_1`, ..."""
    return {f"{name}_{i}": tensor for i, tensor in enumerate(tf.nest.flatten(state))}


def _check_names(state: dict[str, tf.Tensor], structure: dict[str, tf.Tensor]) -> None:
    """Refuses a decoding state with other tensors than `encode` gives."""
    if state.keys() != structure.keys():
        raise InputError(
            f"decode_step takes the state {', '.join(structure)}, which encode returns; "
            f"got {', '.join(state) or 'none'}."
        )


def _values(state: dict[str, tf.Tensor], name: str) -> list[tf.Tensor]:
    """Returns `name_0`, `name_1`, ... in that order."""
    count = sum(key.startswith(f"{name}_") for key in state)
    return [state[f"{name}_{i}"] for i in range(count)]


def end_empty(source: tf.Tensor, best: Hypotheses) -> Hypotheses:
    """Replaces what was found for sources without a token by the end token alone."""
    empty = tf.expand_dims(lengths_of(source) <= 1, 1)  # [B, 1]
    at_start = tf.range(tf.shape(best.ids)[2]) == 0  # [T]
    return Hypotheses(
        ids=tf.where(tf.expand_dims(empty, 2), tf.where(at_start, END_ID, PAD_ID), best.ids),
        scores=tf.where(empty, 0.0, best.scores),
        lengths=tf.where(empty, 1, best.lengths),
    )


def lengths_of(ids: tf.Tensor) -> tf.Tensor:
    """Counts the tokens of padded ids: `[B, S] -> [B]`."""
    return tf.reduce_sum(tf.cast(ids != PAD_ID, tf.int32), axis=1)
