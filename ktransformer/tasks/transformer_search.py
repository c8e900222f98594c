"""The search models of the models that write text."""

import copy
from typing import Any, Self

import tensorflow as tf

from ktransformer.decoding import SearchModel
from ktransformer.models import NextTokenModel, Transformer, transpose_keys

_STAGES = (16, 48)
"""Where the cache of a compiled search grows. Each stage is compiled by itself: some seconds."""


class DecoderSearch(SearchModel):
    """Steps a decoder; see `SearchModel`.

    The hypotheses of a sentence share one cache. A reordering moves nothing in it, only the
    penalties that hide from each hypothesis the entries of the others.

    Args:
        model: The model; here one without a memory.
        inputs: Int32 `[B, S]`: the sources, or only their number B.
        chosen: Int32 `[C]`, ids to search in, such as `Shortlist.choose` returns; the search's
            ids are places in it. None for all.
    """

    def __init__(
        self, model: NextTokenModel, inputs: tf.Tensor, chosen: tf.Tensor | None = None
    ) -> None:
        self._model: Any = model
        self._inputs = inputs
        self._chosen = chosen
        self._columns = None if chosen is None else model.output_columns(chosen)

    def start(self, beam_size: int) -> Any:
        rows = tf.shape(self._inputs)[0]
        memory = self._prepare_memory(beam_size)
        return {"memory": memory, "decoder": self._empty_state(rows, beam_size)}

    def _empty_state(self, rows: tf.Tensor, beam_size: int) -> Any:
        return self._model.empty_state(rows, self.chunk, beam_size=beam_size, chunked=True)

    def _prepare_memory(self, beam_size: int) -> Any:
        return ()

    def step(
        self, ids: tf.Tensor, index: tf.Tensor, state: Any, parents: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        decoder = state["decoder"]
        if parents is not None:
            penalty, attention = tf.nest.map_structure(
                lambda x: tf.gather(x, parents, batch_dims=1), (decoder.penalty, decoder.attention)
            )
            decoder = decoder._replace(penalty=penalty, attention=attention)
        if self._chosen is not None:
            ids = tf.gather(self._chosen, ids)
        logits, decoder = self._model.step(ids, index, decoder, state["memory"], self._columns)
        return logits, {**state, "decoder": decoder}

    def flush(self, state: Any) -> Any:
        return {**state, "decoder": state["decoder"].flush()}


class PromptSearch(DecoderSearch):
    """Steps a decoder whose texts begin with ids of their own in place of the start token.

    Args:
        model: The model.
        first: Int32 `[B]`, the ids at position 0.
    """

    def start(self, beam_size: int) -> Any:
        return {**super().start(beam_size), "first": self._inputs}

    def step(
        self, ids: tf.Tensor, index: tf.Tensor, state: Any, parents: tf.Tensor | None
    ) -> tuple[tf.Tensor, Any]:
        first = tf.repeat(state["first"], 1 if parents is None else parents.shape[1])
        return super().step(tf.where(index == 0, first, ids), index, state, parents)


class TransformerSearch(DecoderSearch):
    """Steps a `Transformer` over the memory of its sources.

    Args:
        model: The model.
        source: Int32 `[B, S]`.
        chosen: See `DecoderSearch`.
    """

    def __init__(
        self, model: Transformer, source: tf.Tensor, chosen: tf.Tensor | None = None
    ) -> None:
        super().__init__(model, source, chosen)
        self._keeps_attention = False

    def _prepare_memory(self, beam_size: int) -> Any:
        memory = self._model.prepare_memory(self._inputs)
        return memory if beam_size == 1 and not self.stages else transpose_keys(memory)

    def with_attention(self) -> Self:
        model = copy.copy(self)
        model._keeps_attention = True
        return model

    def start(self, beam_size: int) -> Any:
        state = super().start(beam_size)
        if not self._keeps_attention:
            return state
        hidden = state["memory"]["mask_penalty"][:, 0] > 0  # [B, 1, S], True at padding.
        attention = tf.repeat(tf.cast(hidden, tf.float32), beam_size, axis=1)
        return {**state, "decoder": state["decoder"]._replace(attention=attention)}

    def attention(self, state: Any) -> tf.Tensor:
        return state["decoder"].attention


class StagedSearch(TransformerSearch):
    """A `TransformerSearch` that XLA can compile: its cache grows at a few positions alone.

    Args:
        model: The model.
        source: Int32 `[B, S]`.
        longest: Int32 scalar that follows from the shape of `source`: the most tokens of a target.
        columns: The whole output projection, as `output_columns` gives it; None for the
            model's own.
    """

    def __init__(
        self, model: Transformer, source: tf.Tensor, longest: tf.Tensor, columns: Any
    ) -> None:
        super().__init__(model, source)
        self._columns = columns
        self.stages = (*(tf.minimum(end, longest) for end in _STAGES), longest)

    def _empty_state(self, rows: tf.Tensor, beam_size: int) -> Any:
        return self._model.empty_state(rows, self.stages[0], beam_size=beam_size).sliced()

    def grow(self, state: Any, positions: Any) -> Any:
        return {**state, "decoder": state["decoder"].grow(positions)}
