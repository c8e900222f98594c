"""The search models of the models that write text."""

from typing import Any

import tensorflow as tf

from ktransformer.decoding import SearchModel
from ktransformer.models import NextTokenModel, Transformer


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
        state = self._model.empty_state(rows, self.chunk, beam_size=beam_size, chunked=True)
        return {"memory": self._prepare_memory(), "decoder": state}

    def _prepare_memory(self) -> Any:
        return ()

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

    def _prepare_memory(self) -> Any:
        return self._model.prepare_memory(self._inputs)
