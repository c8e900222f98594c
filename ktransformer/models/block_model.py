"""The base of the models: options of the blocks, presets, export, and the encoder's factory."""

from typing import Any, ClassVar, NoReturn, Self

import keras

from ktransformer.layers import EncoderBlock
from ktransformer.layers.block_config import ConfiguredLayer
from ktransformer.layers.checks import check_multiple, describe_axes, to_size
from ktransformer.layers.output_shapes import DescribedLayer
from ktransformer.layers.projection import refuse_quantization
from ktransformer.models.encoder import Encoder


class BlockModel(ConfiguredLayer, DescribedLayer, keras.Model):
    """A model of blocks: holds their options, and makes final norms.

    Args:
        num_layers: Blocks in a stack.
        d_model: D, the width.
        remat: Whether a block's activations are computed again for the gradient, instead of being
            kept: less memory for more time, and the same results within rounding; see
            `BlockStack`.
        **options: Fields of `BlockConfig`, and arguments of `keras.Model`.

    Raises:
        ValueError: See `BlockConfig`; a size is below 1, or `num_heads` does not divide `d_model`.
        TypeError: An argument is unknown, or a size is no integer.
    """

    presets: ClassVar[dict[str, dict[str, Any]]]
    input_axes: ClassVar[str | dict[str, str]] = "inputs"
    """The axes of the inputs, such as `"[B, T]"`, or of each named input."""

    def __init__(
        self, *, num_layers: int, d_model: int, remat: bool = False, **options: Any
    ) -> None:
        super().__init__(**options)
        self.num_layers = to_size("num_layers", num_layers)
        self.d_model = to_size("d_model", d_model)
        check_multiple(d_model=self.d_model, num_heads=self.num_heads)
        self.remat = remat

    @classmethod
    def from_preset(cls, preset: str, *arguments: Any, **overrides: Any) -> Self:
        """Creates a model of a known size.

        Args:
            preset: One of `presets`.
            *arguments: What the constructor takes first, such as the vocabulary's size.
            **overrides: Constructor arguments that take the place of the preset's.

        Raises:
            ValueError: There is no such preset.
        """
        if preset not in cls.presets:
            raise ValueError(f"preset must be one of {sorted(cls.presets)}; got preset={preset!r}.")
        return cls(*arguments, **{**cls.presets[preset], **overrides})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Keras would take a second tensor for `training`.
        if len(args) > 1 and self.call_signature_parameters[1:2] == ["training"]:
            raise TypeError(
                f"{type(self).__name__} takes one positional argument, "
                f"{describe_axes(self.input_axes)}; got {len(args)}."
            )
        return super().__call__(*args, **kwargs)

    def export_signature(self) -> list[Any] | None:
        """Returns what an exported model takes, as `keras.InputSpec`s; None for Keras' guess."""
        if isinstance(self.input_axes, str):
            return None
        return [
            {
                name: keras.InputSpec(
                    shape=(None,) * (axes.count(",") + 1), dtype="int32", name=name
                )
                for name, axes in self.input_axes.items()
            }
        ]

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any | None = None,
        **kwargs: Any,
    ) -> None:
        """Exports one forward pass by Keras; `export_signature` says what it takes.

        Keras itself would make every input a float of the shape of the first call.

        Args:
            filepath: Where to write.
            format: See `keras.Model.export`.
            verbose: Whether Keras prints the signature.
            input_signature: Another signature; None for that of `export_signature`.
            **kwargs: Other arguments of `keras.Model.export`.
        """
        if not self.built:
            self.build()
        if input_signature is None:
            input_signature = self.export_signature()
        super().export(
            filepath, format=format, verbose=verbose, input_signature=input_signature, **kwargs
        )

    def quantize(self, mode: Any = None, **kwargs: Any) -> NoReturn:
        """Raises a `NotImplementedError` that says what to do instead."""
        refuse_quantization(type(self).__name__, mode)

    def has_plain_logits(self) -> bool:
        """Returns whether training may compute the logits as `hidden_states` times `output_table`.

        A model that has both overrides it; then `fitting.TrainingModel` trains it in less memory.
        It adds `output_bias_weight`, if the model has one.
        """
        return False

    def make_final_norm(self) -> keras.layers.Layer | None:
        """Creates the norm after a stack's last block, or None; called once a stack."""
        return self.make_norm() if self.norm_first else None

    def block_arguments(self) -> dict[str, Any]:
        """Returns the arguments that the model gives to every block."""
        return {**self.block_config.to_dict(), "dtype": self.dtype_policy}

    def get_config(self) -> dict[str, Any]:
        names = ("num_layers", "d_model", "remat")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class EncoderModel(BlockModel):
    """A `BlockModel` with an encoder; a subclass sets `encoder` to what `make_encoder` returns."""

    def make_encoder(self) -> Encoder:
        """Creates the encoder of `num_layers` blocks."""
        return Encoder(
            [self.make_encoder_block() for _ in range(self.num_layers)],
            final_norm=self.make_final_norm(),
            remat=self.remat,
            dtype=self.dtype_policy,
            name="encoder",
        )

    def make_encoder_block(self) -> keras.layers.Layer:
        """Creates one block of the encoder; override it for another one."""
        return EncoderBlock(**self.block_arguments())
