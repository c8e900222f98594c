"""The attention heads that align a translation with its source."""

from typing import NamedTuple, Self

from ktransformer.errors import InputError


class AlignmentHeads(NamedTuple):
    """Heads of a decoder block's cross-attention.

    Attributes:
        layer: The block, from 0.
        heads: Its first so many heads; None for all.
        shifted: Whether a token has the weights that read it; see `losses.alignment_weights`.
    """

    layer: int
    heads: int | None
    shifted: bool

    @classmethod
    def choose(
        cls,
        settings: dict[str, int | None],
        *,
        num_layers: int,
        num_heads: int,
        shifted: bool,
    ) -> Self:
        """Returns the heads that two settings name.

        Args:
            settings: The layer, from 0, and the number of heads, by their names for the message.
                None is for the last layer, or, if `shifted`, the one before it, and for all heads.
            num_layers: Blocks of the model's decoder.
            num_heads: Heads of a block.
            shifted: See the class.

        Raises:
            InputError: The layer or the heads are more than the model has.
        """
        for (name, value), most in zip(settings.items(), (num_layers - 1, num_heads), strict=True):
            if value is not None and value > most:
                raise InputError(f"{name} must be at most {most} in this model; got {value}.")
        layer, heads = settings.values()
        if layer is None:
            layer = max(num_layers - 1 - shifted, 0)
        return cls(layer, heads, shifted)
