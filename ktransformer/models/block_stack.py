"""The base of the encoder and the decoder: a list of blocks, and a norm after the last."""

from typing import Any

import keras

from ktransformer.layers.output_shapes import SameShapeLayer
from ktransformer.layers.tensors import Vectors
from ktransformer.models.rematerialization import call_rematerialized


class BlockStack(SameShapeLayer):
    """Holds blocks and an optional final norm, and (de)serialises both.

    Args:
        blocks: The layers, first to last; at least one.
        final_norm: A layer that norms the last block's output, or None.
        remat: Whether the backward pass recomputes a block's activations instead of storing them:
            less memory, more time, the same dropout, and the same results within rounding. The
            savings depend on the order in which the backend runs operations.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: `blocks` is empty.
    """

    def __init__(
        self,
        blocks: list[keras.layers.Layer],
        *,
        final_norm: keras.layers.Layer | None = None,
        remat: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not blocks:
            raise ValueError("blocks must hold at least one layer; got none.")
        self.blocks = list(blocks)
        self.final_norm = final_norm
        self.remat = remat
        self.supports_masking = True

    def build_blocks(self, *shapes: Any) -> None:
        """Builds every block for `shapes`, and the norm for the first of them."""
        for block in self.blocks:
            if not block.built:  # Keras builds the blocks of a saved model before their stack.
                block.build(*shapes)
        if self.final_norm is not None and not self.final_norm.built:
            self.final_norm.build(shapes[0])

    def call_block(
        self, block: keras.layers.Layer, *inputs: Vectors, training: bool | None, **masks: Any
    ) -> Vectors:
        """Calls one block, rematerialized in training if `remat` is set.

        Args:
            block: One of `blocks`.
            *inputs: Float tensors: the hidden states and, in a decoder, the memory or None.
            training: Whether dropout is on.
            **masks: The masks, by the names that the block's `call` gives them.

        Returns:
            The block's output, a float tensor of the shape of the first input.
        """
        if self.remat and training:
            return call_rematerialized(block, *inputs, training=training, **masks)
        return block(*inputs, training=training, **masks)

    def finish(self, hidden: Vectors) -> Vectors:
        """Applies the final norm, if there is one."""
        return hidden if self.final_norm is None else self.final_norm(hidden)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "blocks": [keras.saving.serialize_keras_object(block) for block in self.blocks],
            "final_norm": keras.saving.serialize_keras_object(self.final_norm),
            "remat": self.remat,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BlockStack":
        """Creates the layer that `get_config` described."""
        deserialize = keras.saving.deserialize_keras_object
        blocks = [deserialize(block) for block in config["blocks"]]
        parts = {"blocks": blocks, "final_norm": deserialize(config["final_norm"])}
        return cls(**{**config, **parts})
