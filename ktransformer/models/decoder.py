"""The decoder: a stack of blocks that also look at an encoder's memory."""

from typing import Any

import keras

from ktransformer.models.block_stack import BlockStack

KeyValue = tuple[Any, Any]


@keras.saving.register_keras_serializable(package="ktransformer")
class Decoder(BlockStack):
    """Passes vectors through a stack of causal blocks that attend to a memory.

    Args:
        blocks: `DecoderBlock`s or layers with the same methods, first to last; at least one.
        final_norm: A layer that norms the last block's output, or None.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Float tensor `[B, T, D]`, embedded target tokens.
        memory: Float tensor `[B, S, D]`, the encoder's output.
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

    Reference: Vaswani et al. 2017, section 3.1.
    """

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        """Builds the blocks for inputs `[B, T, D]` and memory `[B, S, D]`."""
        self.build_blocks(inputs_shape, memory_shape)

    def call(
        self,
        inputs: Any,
        memory: Any,
        inputs_mask: Any | None = None,
        memory_mask: Any | None = None,
        training: bool | None = None,
    ) -> Any:
        hidden = inputs
        for block in self.blocks:
            hidden = block(
                hidden,
                memory,
                inputs_mask=inputs_mask,
                memory_mask=memory_mask,
                training=training,
            )
        return self.finish(hidden)

    def empty_cache(self, rows: Any, length: Any) -> list[KeyValue]:
        """Makes an empty cache for `length` positions: a key and a value per block."""
        return [block.self_attention.empty_cache(rows, length) for block in self.blocks]

    def project_memory(self, memory: Any) -> list[KeyValue]:
        """Computes each block's cross-attention key and value of the memory `[B, S, D]`."""
        return [block.cross_attention.project_memory(memory) for block in self.blocks]

    def step(
        self,
        inputs: Any,
        cache: list[KeyValue],
        index: Any,
        key_values: list[KeyValue],
        memory_mask: Any | None = None,
    ) -> tuple[Any, list[KeyValue]]:
        """Decodes one new position of every hypothesis.

        Args:
            inputs: Float tensor `[B*K, 1, D]`, a sentence's hypotheses next to each other.
            cache: What `empty_cache` or the last step returned.
            index: Position of the inputs, an int or a scalar int32 tensor.
            key_values: What `project_memory` returned for the B sentences.
            memory_mask: Boolean tensor `[B, S]`.

        Returns:
            The outputs `[B*K, 1, D]` and the cache with this position written in.
        """
        hidden, new_cache = inputs, []
        for block, block_cache, key_value in zip(self.blocks, cache, key_values, strict=True):
            hidden, block_cache = block.step(hidden, block_cache, index, key_value, memory_mask)
            new_cache.append(block_cache)
        return self.finish(hidden), new_cache
