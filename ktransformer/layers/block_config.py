"""The options of a block, spelled once for every block and model that takes them."""

import dataclasses
import inspect
from typing import Any, ClassVar

import keras

from ktransformer.errors import did_you_mean
from ktransformer.layers.checks import check_choice, check_dropouts, check_multiple, to_size
from ktransformer.layers.feed_forward import FeedForward
from ktransformer.layers.gated_feed_forward import GatedFeedForward
from ktransformer.layers.layer_normalization import LayerNormalization
from ktransformer.layers.positions import get as get_positions
from ktransformer.layers.positions import serialize as serialize_positions
from ktransformer.layers.rms_normalization import RMSNormalization

NORMS: dict[str, type[keras.layers.Layer]] = {
    "layer": LayerNormalization,
    "rms": RMSNormalization,
}
FEED_FORWARDS: dict[str, tuple[type[FeedForward], str | None]] = {
    "plain": (FeedForward, None),
    "swiglu": (GatedFeedForward, "silu"),
    "geglu": (GatedFeedForward, "gelu"),
}
"""Each network with its activation; None for the block's own `activation`."""


@keras.saving.register_keras_serializable(package="ktransformer")
@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """The options of an encoder or decoder block.

    `EncoderBlock`, `DecoderBlock` and every model take them as keyword arguments.

    Args:
        num_heads: H, the attention heads; divides the width D.
        hidden_dim: Features of the feed-forward network's inner layer.
        num_kv_heads: Heads of keys and values, each shared by `num_heads / num_kv_heads` heads of
            queries: 1 is multi-query attention, more are grouped-query attention (Ainslie et al.
            2023). None for `num_heads`.
        dropout: Probability of zeroing a feature of a sublayer's output, in [0, 1).
        attention_dropout: The same for attention weights.
        hidden_dropout: The same for the feed-forward network's inner features.
        activation: Inner activation of the plain feed-forward network: a name or a function.
        norm_first: True for pre-norm (`x + f(norm(x))`, Xiong et al. 2020), False for post-norm
            (`norm(x + f(x))`, Vaswani et al. 2017).
        norm: `"layer"` for `LayerNormalization`, `"rms"` for `RMSNormalization`.
        feed_forward: `"plain"` for `FeedForward`; `"swiglu"` or `"geglu"` for `GatedFeedForward`.
        positions: The position encoding of the self-attention: a name, a configuration or an
            object; see `ktransformer.layers.positions`. Encodings that belong to the embedding,
            such as `"sinusoidal"`, change nothing in a block.
        use_bias: Whether the projections of the attention and of the feed-forward network have a
            bias.
        epsilon: Added to the variance in the norms.

    Raises:
        ValueError: A size is below 1, `num_kv_heads` does not divide `num_heads`, a dropout is not
            in [0, 1), or `norm`, `feed_forward`, `positions` or `activation` is unknown.
        TypeError: A size is no integer.
    """

    num_heads: int
    hidden_dim: int
    num_kv_heads: int | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    activation: Any = "relu"
    norm_first: bool = False
    norm: str = "layer"
    feed_forward: str = "plain"
    positions: Any = "none"
    use_bias: bool = True
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("num_heads", "hidden_dim", "num_kv_heads"):
            value = getattr(self, name)
            if value is not None:  # The only way into a frozen dataclass.
                object.__setattr__(self, name, to_size(name, value))
        if self.num_kv_heads is not None:
            check_multiple(num_heads=self.num_heads, num_kv_heads=self.num_kv_heads)
        check_dropouts(
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            hidden_dropout=self.hidden_dropout,
        )
        check_choice("norm", self.norm, NORMS)
        check_choice("feed_forward", self.feed_forward, FEED_FORWARDS)
        keras.activations.get(self.activation)
        positions = get_positions(self.positions)
        encoded = serialize_positions(positions)  # A name wherever there is one.
        object.__setattr__(self, "positions", encoded if isinstance(encoded, str) else positions)

    def to_dict(self) -> dict[str, Any]:
        """Returns the options as they are: what a constructor takes."""
        return {name: getattr(self, name) for name in OPTIONS}

    def get_config(self) -> dict[str, Any]:
        """Returns the options as Keras saves them, objects serialised."""
        config = self.to_dict()
        if not isinstance(self.activation, str):
            config["activation"] = keras.activations.serialize(
                keras.activations.get(self.activation)
            )
        config["positions"] = serialize_positions(get_positions(self.positions))
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BlockConfig":
        """Creates the options that `get_config` returned."""
        return cls(**config)


OPTIONS = tuple(field.name for field in dataclasses.fields(BlockConfig))
_OF_KERAS = ("name", "dtype", "trainable", "autocast", "activity_regularizer")


class ConfiguredLayer(keras.layers.Layer):
    """A block, or a model of blocks, whose constructor takes the options of `BlockConfig`.

    Each option is an attribute as well, for subclasses.

    Args:
        **options: Fields of `BlockConfig`, and arguments of the next class, such as
            `keras.layers.Layer`.

    Attributes:
        block_config: The options, a `BlockConfig`.

    Raises:
        TypeError: An argument is unknown.
    """

    block_defaults: ClassVar[dict[str, Any]] = {}
    """Options that take the place of the defaults of `BlockConfig`."""

    def __init__(self, **options: Any) -> None:
        chosen = {name: options.pop(name) for name in OPTIONS if name in options}
        for name in options.keys() - _known_arguments(type(self)):
            raise TypeError(
                f"{type(self).__name__} takes no argument {name!r}."
                + did_you_mean(name, sorted(_known_arguments(type(self))))
            )
        config = BlockConfig(**{**self.block_defaults, **chosen})
        super().__init__(**options)
        self.block_config = config
        for name, value in config.to_dict().items():
            setattr(self, name, value)

    def make_norm(self, name: str | None = None) -> keras.layers.Layer:
        """Creates one norm; called once for each that there is. Override it for another norm."""
        norm = NORMS[self.block_config.norm]
        return norm(epsilon=self.epsilon, dtype=self.dtype_policy, name=name)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.block_config.get_config()}


def _known_arguments(layer: type) -> set[str]:
    """Returns the names of all arguments that the constructors of a class take."""
    names = {*OPTIONS, *_OF_KERAS}
    for parent in layer.__mro__:
        if parent is keras.layers.Layer:
            break
        if (constructor := vars(parent).get("__init__")) is not None:
            names |= {
                name
                for name, parameter in inspect.signature(constructor).parameters.items()
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            }
    return names - {"self"}
