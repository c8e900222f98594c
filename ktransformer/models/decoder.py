"""The decoder: a stack of causal blocks, with or without an encoder's memory."""

from typing import Any, ClassVar

import keras
from keras import ops

from ktransformer.layers import DecoderState, KeyValues, MaskPenalty, StepContext
from ktransformer.layers.overrides import check_attention_weights, check_overrides
from ktransformer.layers.tensors import Mask, Scores, Shape, Size, Vectors
from ktransformer.models.block_stack import BlockStack


@keras.saving.register_keras_serializable(package="ktransformer")
class Decoder(BlockStack):
    """Passes vectors through a stack of causal blocks, which attend to a memory if there is one.

    Args:
        blocks: `DecoderBlock`s or layers with the same methods, first to last; at least one.
        final_norm: A layer that norms the last block's output, or None.
        remat: See `BlockStack`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`, embedded target tokens.
        memory: Float tensor `[B, S, D]`, the encoder's output; None for a decoder without one.
        inputs_mask: Boolean tensor `[B, T]`, True at real positions; filled in by Keras.
        memory_mask: Boolean tensor `[B, S]`, likewise.
        training: Whether dropout is on.

    Returns:
        Float tensor `[B, T, D]`.

    Raises:
        ValueError: `blocks` is empty.

    Masking: handed to every block; the mask of `inputs` is passed on unchanged.

    Example:
        ```python
        decoder = Decoder([DecoderBlock(4, 256, dropout=0.1) for _ in range(4)])
        hidden = decoder(embedding(target), memory, memory_mask=embedding.compute_mask(source))
        ```

    Reference: Vaswani et al. 2017, section 3.1; Radford et al. 2019, section 2.3 (no memory).
    """

    cached_counterparts: ClassVar[dict[str, tuple[str, ...]]] = {
        "call": ("step", "project_memory"),
        "call_block": ("step",),
    }

    def build(self, inputs_shape: Shape, memory_shape: Shape | None = None) -> None:
        """Builds the blocks for inputs `[B, T, D]` and, where there is one, memory `[B, S, D]`."""
        self.build_blocks(inputs_shape, *([] if memory_shape is None else [memory_shape]))

    def compute_output_shape(self, inputs_shape: Shape, memory_shape: Shape = None) -> Shape:
        """Returns the shape of the inputs."""
        return inputs_shape

    def call(
        self,
        inputs: Vectors,
        memory: Vectors | None = None,
        inputs_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        training: bool | None = None,
    ) -> Vectors:
        if memory is None and inputs_mask is None:  # Keras fills it in for two tensors alone.
            inputs_mask = getattr(inputs, "_keras_mask", None)
        hidden = inputs
        for block in self.blocks:
            hidden = self.call_block(
                block,
                hidden,
                memory,
                inputs_mask=inputs_mask,
                memory_mask=memory_mask,
                training=training,
            )
        return self.finish(hidden)

    def call_with_attention(
        self,
        inputs: Vectors,
        memory: Vectors,
        layer: int,
        *,
        inputs_mask: Mask | None = None,
        memory_mask: Mask | None = None,
        training: bool | None = None,
    ) -> tuple[Vectors, Scores]:
        """Returns the output of a call and the cross-attention weights of one block.

        Args:
            inputs: As of a call.
            memory: Likewise.
            layer: The block, from 0.
            inputs_mask: As of a call.
            memory_mask: Likewise.
            training: Whether dropout is on; there is none in the block's weights.

        Returns:
            Float tensors `[B, T, D]` and `[B, H, T, S]`.

        Raises:
            NotImplementedError: A subclass, here or among the blocks, overrides `call` and not the
                method that returns its weights.
        """
        check_attention_weights(self, "call_with_attention")
        masks = {"inputs_mask": inputs_mask, "memory_mask": memory_mask}
        hidden, weights = inputs, None
        for block in self.blocks:
            if block is self.blocks[layer]:
                weights = block.cross_attention_weights(hidden, memory, **masks)
            hidden = self.call_block(block, hidden, memory, **masks, training=training)
        return self.finish(hidden), weights

    def cross_attention_weights(
        self,
        inputs: Vectors,
        memory: Vectors,
        *,
        inputs_mask: Mask | None = None,
        memory_mask: Mask | None = None,
    ) -> list[Any]:
        """Returns each block's cross-attention weights `[B, H, T, S]`, first block first.

        Takes what `call` takes, with a memory.

        Raises:
            NotImplementedError: A subclass, here or among the blocks, overrides `call` and not the
                method that returns its weights.
        """
        check_attention_weights(self, "cross_attention_weights")
        masks = {"inputs_mask": inputs_mask, "memory_mask": memory_mask}
        hidden, weights = inputs, []
        for block in self.blocks:
            weights.append(block.cross_attention_weights(hidden, memory, **masks))
            hidden = self.call_block(block, hidden, memory, **masks, training=False)
        return weights

    def empty_state(
        self, rows: Size, length: Size, *, beam_size: int = 1, chunked: bool = False
    ) -> DecoderState:
        """Makes the state before the first step; see `Transformer.empty_state`."""
        caches = (
            block.self_attention.empty_cache(rows, length, beam_size=beam_size, chunked=chunked)
            for block in self.blocks
        )
        penalty = MaskPenalty.all_hidden(rows, length, beam_size=beam_size, chunked=chunked)
        return DecoderState(tuple(caches), penalty)

    def project_memory(self, memory: Vectors, memory_mask: Mask) -> list[KeyValues]:
        """Computes each block's cross-attention key and value of the memory `[B, S, D]`."""
        return [block.cross_attention.project_memory(memory, memory_mask) for block in self.blocks]

    def step(
        self,
        inputs: Vectors,
        state: DecoderState,
        index: Size,
        memories: list[KeyValues] | None = None,
        memory_penalty: Any = (),
    ) -> tuple[Any, DecoderState]:
        """Decodes one new position of every hypothesis.

        Args:
            inputs: Float tensor `[B, K, D]`, the K hypotheses of each sentence.
            state: What `empty_state` or the last step returned.
            index: Position of the inputs, an int or a scalar int32 tensor.
            memories: What `project_memory` returned for the B sentences; None without a memory.
            memory_penalty: Float32 `[B, 1, 1, S]`, 0 at real positions and 1e9 at padding; unused
                without a memory.

        Returns:
            The outputs `[B, K, D]` and the state with this position written in. Where the state
            has `attention`, the cross-attention weights of the last block are added to it.

        Raises:
            NotImplementedError: A subclass overrides a method of whole sequences and not this.
            ValueError: The state has `attention`, and a block has no cross-attention, or one whose
                `step` does not append to `StepContext.cross_weights`.
        """
        check_overrides(self)
        at = StepContext.at(index, state.penalty, memory_penalty, compiled=state.is_sliced)
        weights: list[Any] = []
        keeps_attention = not isinstance(state.attention, tuple)
        if keeps_attention:
            at = at._replace(cross_weights=weights)
        hidden, caches, nothing = inputs, [], [None] * len(self.blocks)
        for block, cache, memory in zip(
            self.blocks, state.caches, memories or nothing, strict=True
        ):
            hidden, cache = block.step(hidden, cache, memory, at)
            caches.append(cache)
        attention = state.attention
        if keeps_attention:
            attention = attention + self._mean_weights(weights)
        return self.finish(hidden), DecoderState(tuple(caches), at.penalty, attention)

    def _mean_weights(self, weights: list[Any]) -> Any:
        """Averages the last block's weights over the heads: `[B, H, K, S] -> [B, K, S]`."""
        if len(weights) != len(self.blocks):
            raise ValueError(
                "The cross-attention of every block must append its weights to "
                f"StepContext.cross_weights; got {len(weights)} of {len(self.blocks)} blocks."
            )
        return ops.mean(ops.cast(weights[-1], "float32"), axis=1)
