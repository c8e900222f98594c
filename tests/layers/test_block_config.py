"""The options of a block: checked, saved, and taken by every block and model."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from ktransformer import layers, models
from ktransformer.layers import BlockConfig, DecoderBlock, EncoderBlock
from ktransformer.layers.block_config import OPTIONS
from ktransformer.layers.positions import Rotary
from tests.layers.layer_checks import array, built, normal

CHANGED = BlockConfig(
    num_heads=4,
    hidden_dim=12,
    num_kv_heads=2,
    dropout=0.2,
    attention_dropout=0.3,
    hidden_dropout=0.4,
    activation="silu",
    norm_first=True,
    norm="rms",
    feed_forward="geglu",
    positions="rotary",
    use_bias=False,
    epsilon=1e-3,
)
MAKERS = {
    "EncoderBlock": layers.EncoderBlock,
    "DecoderBlock": layers.DecoderBlock,
    "Transformer": lambda **o: models.Transformer(13, num_layers=1, d_model=8, max_length=7, **o),
    "CausalLanguageModel": lambda **o: models.CausalLanguageModel(
        13, num_layers=1, d_model=8, max_length=7, **o
    ),
    "MaskedLanguageModel": lambda **o: models.MaskedLanguageModel(
        13, num_layers=1, d_model=8, max_length=7, **o
    ),
    "SequenceClassifier": lambda **o: models.SequenceClassifier(
        13, 3, num_layers=1, d_model=8, max_length=7, embedding_norm=True, **o
    ),
    "VisionTransformer": lambda **o: models.VisionTransformer(
        3, image_size=4, patch_size=2, num_layers=1, d_model=8, **o
    ),
}
every_owner = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def sublayers(block):
    """Names the parts of a block that an option replaces."""
    return type(block.self_attention_norm).__name__, type(block.feed_forward).__name__


def test_the_changed_options_differ_from_the_defaults():
    defaults = BlockConfig(2, 16)
    assert all(getattr(CHANGED, name) != getattr(defaults, name) for name in OPTIONS)


def test_the_options_survive_serialisation():
    config = keras.saving.serialize_keras_object(CHANGED)
    json.dumps(config)
    assert keras.saving.deserialize_keras_object(config) == CHANGED


@every_owner
def test_every_option_survives_the_config(make):
    layer = make(**CHANGED.to_dict())
    config = layer.get_config()
    json.dumps(config)
    assert {name: config[name] for name in OPTIONS} == CHANGED.to_dict()
    assert type(layer).from_config(config).block_config == CHANGED


@every_owner
def test_every_option_is_an_attribute(make):
    layer = make(**CHANGED.to_dict())
    assert {name: getattr(layer, name) for name in OPTIONS} == CHANGED.to_dict()


@pytest.mark.parametrize(
    "make", [m for name, m in MAKERS.items() if "Block" not in name], ids=lambda _: ""
)
def test_a_model_gives_every_option_to_its_blocks(make):
    model = make(**CHANGED.to_dict())
    stacks = [getattr(model, name) for name in ("encoder", "decoder") if hasattr(model, name)]
    assert {block.block_config for stack in stacks for block in stack.blocks} == {CHANGED}


@every_owner
def test_an_unknown_argument_is_named_with_the_nearest_one(make):
    with pytest.raises(TypeError, match=r"'hiden_dropout'.*'hidden_dropout'"):
        make(num_heads=2, hidden_dim=16, hiden_dropout=0.1)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"num_heads": 0}, ValueError, "num_heads.*1.*0"),
        ({"num_heads": 2.5}, TypeError, "num_heads.*2.5"),
        ({"hidden_dim": -1}, ValueError, "hidden_dim.*1.*-1"),
        ({"num_kv_heads": 3}, ValueError, "num_kv_heads.*3"),
        ({"num_kv_heads": 0}, ValueError, "num_kv_heads.*0"),
        ({"dropout": 1.0}, ValueError, r"dropout.*\[0, 1\).*1.0"),
        ({"norm": "batch"}, ValueError, "norm.*layer.*rms.*batch"),
        ({"feed_forward": "moe"}, ValueError, "feed_forward.*swiglu.*moe"),
        ({"positions": "polar"}, ValueError, "positions.*rotary.*polar"),
        ({"activation": "step"}, ValueError, "step"),
    ],
    ids=str,
)
def test_an_impossible_option_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        BlockConfig(**{"num_heads": 4, "hidden_dim": 8, **wrong})


def test_the_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CHANGED.dropout = 0.5


@pytest.mark.parametrize("make", [m for n, m in MAKERS.items() if n != "VisionTransformer"])
def test_sizes_may_be_numpy_integers(make):
    layer = make(num_heads=np.int64(2), hidden_dim=np.int32(16))
    assert (type(layer.num_heads), type(layer.hidden_dim)) == (int, int)
    json.dumps(layer.get_config())


def test_a_model_of_numpy_sizes_is_built():
    sizes = {"num_layers": 1, "d_model": 16, "num_heads": 2, "hidden_dim": 8, "max_length": 4}
    model = models.Transformer(np.int64(13), **{name: np.int32(n) for name, n in sizes.items()})
    model.build()
    json.dumps(model.get_config())
    assert model.source_embedding.embeddings.shape == (13, 16)


def test_a_function_may_be_the_activation():
    block = built(EncoderBlock(2, 16, activation=keras.activations.silu), (None, None, 8))
    copy = EncoderBlock.from_config(block.get_config())
    copy.build((None, None, 8))
    copy.set_weights(block.get_weights())
    inputs = normal(2, 3, 8)
    np.testing.assert_array_equal(array(copy(inputs)), array(block(inputs)))


@pytest.mark.parametrize("block", [EncoderBlock, DecoderBlock])
@pytest.mark.parametrize(
    ("norm", "feed_forward", "expected"),
    [
        ("layer", "plain", ("LayerNormalization", "FeedForward")),
        ("rms", "swiglu", ("RMSNormalization", "GatedFeedForward")),
    ],
)
def test_the_norm_and_the_network_are_those_of_their_names(block, norm, feed_forward, expected):
    layer = block(2, 16, norm=norm, feed_forward=feed_forward)
    layer.build((None, None, 8))
    assert sublayers(layer) == expected


@pytest.mark.parametrize(("name", "activation"), [("swiglu", "silu"), ("geglu", "gelu")])
def test_a_gated_network_has_the_activation_of_its_name(name, activation):
    block = EncoderBlock(2, 16, feed_forward=name, activation="relu")
    block.build((None, None, 8))
    assert block.feed_forward.activation is keras.activations.get(activation)


def test_without_biases_a_block_has_none():
    block = DecoderBlock(2, 16, norm="rms", feed_forward="swiglu", use_bias=False)
    block.build((None, None, 8), (None, None, 8))
    assert {weight.name for weight in block.trainable_weights} == {"kernel", "gamma"}


def test_a_block_gives_its_attentions_the_heads_and_the_positions():
    block = DecoderBlock(4, 16, num_kv_heads=2, positions="rotary")
    block.build((None, None, 8), (None, None, 8))
    assert block.self_attention.num_kv_heads == block.cross_attention.num_kv_heads == 2
    assert block.self_attention.positions == Rotary()


@pytest.mark.parametrize("serialized", [False, True])
def test_positions_may_be_an_object_or_its_configuration(serialized):
    positions = Rotary(base=5e5)
    if serialized:
        positions = keras.saving.serialize_keras_object(positions)
    config = BlockConfig(2, 16, positions=positions)
    json.dumps(config.get_config())
    assert config.positions == Rotary(base=5e5)
    assert BlockConfig.from_config(config.get_config()) == config


def test_positions_with_the_options_of_a_name_are_that_name():
    assert BlockConfig(2, 16, positions=Rotary()).positions == "rotary"


def test_a_config_written_before_an_option_existed_loads():
    config = EncoderBlock(2, 16, norm_first=True).get_config()
    for name in ("num_kv_heads", "norm", "feed_forward", "positions", "use_bias"):
        del config[name]
    assert EncoderBlock.from_config(config).block_config == BlockConfig(2, 16, norm_first=True)
