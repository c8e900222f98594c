"""The stack of encoder blocks, and the mask on its way through it."""

import keras
import numpy as np
import pytest

from ktransformer.layers import EncoderBlock, FeedForward, PositionalEmbedding
from ktransformer.models import Encoder
from tests.layers.layer_checks import (
    POLICIES,
    POLICIES_AND_MODES,
    TOLERANCE,
    array,
    built,
    check_layer,
    compiled,
    normal,
    randomize,
)

B, S, D = 2, 6, 8
IDS = np.array([[5, 0, 7, 3, 0, 0], [4, 9, 2, 6, 1, 0]], "int32")  # A pad in the middle, too.
MASK = IDS != 0
NORMS = pytest.mark.parametrize("norm_first", [False, True], ids=["post_norm", "pre_norm"])


def make_encoder(norm_first=False, policy="float32", **options):
    blocks = [EncoderBlock(2, 16, norm_first=norm_first, dtype=policy, **options) for _ in range(2)]
    norm = keras.layers.LayerNormalization(dtype=policy) if norm_first else None
    return Encoder(blocks, final_norm=norm, dtype=policy)


def make_embedding(policy="float32"):
    return PositionalEmbedding(10, D, max_length=8, dtype=policy)


@keras.saving.register_keras_serializable(package="tests")
class SubclassedEncoder(keras.Model):
    """Ids to memory, as a user's own model would do it: nobody mentions a mask."""

    def __init__(self, norm_first, **kwargs):
        super().__init__(**kwargs)
        self.norm_first = norm_first
        self.embedding = make_embedding()
        self.encoder = make_encoder(norm_first)

    def build(self, input_shape):
        self.embedding.build(input_shape)
        self.encoder.build((None, None, D))

    def call(self, ids):
        return self.encoder(self.embedding(ids))

    def get_config(self):
        return {**super().get_config(), "norm_first": self.norm_first}


def functional_encoder(norm_first):
    """Ids to memory as a functional model."""
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, make_encoder(norm_first)(make_embedding()(ids)))


def change_padding(model):
    """Gives the pad id another vector, which only padded positions may notice."""
    (embedding,) = (w for w in model.trainable_weights if w.name == "embeddings")
    embedding.assign(np.concatenate([normal(1, D, seed=5), array(embedding)[1:]]))


@pytest.mark.parametrize("norm_first", [False, pytest.param(True, marks=pytest.mark.long)])
def test_it_is_a_layer_like_any_other(norm_first, tmp_path):
    check_layer(
        lambda policy: make_encoder(norm_first, policy, dropout=0.1),
        [normal(B, S, D)],
        (B, S, D),
        tmp_path,
    )


@NORMS
def test_it_is_its_blocks_one_after_the_other_and_the_norm(norm_first):
    encoder, inputs = built(make_encoder(norm_first), (None, None, D)), normal(B, S, D)
    hidden = encoder.blocks[1](encoder.blocks[0](inputs, mask=MASK), mask=MASK)
    if norm_first:
        hidden = encoder.final_norm(hidden)
    np.testing.assert_allclose(array(encoder(inputs, mask=MASK)), array(hidden), atol=1e-6)


@pytest.mark.parametrize(("policy", "mode"), POLICIES_AND_MODES)
@NORMS
def test_padding_does_not_change_real_positions(norm_first, policy, mode):
    encoder, inputs = built(make_encoder(norm_first, policy), (None, None, D)), normal(B, S, D)
    encode = compiled(lambda vectors: encoder(vectors, mask=MASK), mode)
    changed = np.where(MASK[..., None], inputs, 7 * normal(B, S, D, seed=5))
    np.testing.assert_allclose(
        array(encode(changed))[MASK], array(encode(inputs))[MASK], atol=TOLERANCE[policy]
    )


@pytest.mark.parametrize("policy", POLICIES)
@NORMS
def test_a_longer_padding_does_not_change_real_positions(norm_first, policy):
    encoder, inputs = built(make_encoder(norm_first, policy), (None, None, D)), normal(1, S, D)
    short = array(encoder(inputs[:, :4]))
    padded = array(encoder(inputs, mask=np.array([[True] * 4 + [False] * 2])))
    np.testing.assert_allclose(padded[:, :4], short, atol=TOLERANCE[policy])


@pytest.mark.parametrize("policy", POLICIES)
@NORMS
def test_a_sentence_of_padding_alone_is_finite(norm_first, policy):
    encoder = built(make_encoder(norm_first, policy), (None, None, D))
    assert np.isfinite(array(encoder(normal(B, S, D), mask=np.zeros((B, S), bool)))).all()


@pytest.mark.parametrize(
    ("make_model", "saved"),
    [
        (functional_encoder, False),
        (functional_encoder, True),
        (SubclassedEncoder, False),
        (SubclassedEncoder, True),
    ],
)
@NORMS
def test_the_mask_of_the_ids_reaches_every_block(norm_first, make_model, saved, tmp_path):
    model = make_model(norm_first)
    model(IDS)
    randomize(model)
    if saved:
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    outputs = model(IDS)
    np.testing.assert_array_equal(outputs._keras_mask, MASK)
    before = array(outputs)
    change_padding(model)
    after = array(model(IDS))
    np.testing.assert_allclose(after[MASK], before[MASK], atol=1e-5)
    assert np.abs(after[~MASK] - before[~MASK]).max() > 1e-2  # The padding itself did change.


def test_any_layer_that_keeps_the_shape_may_be_a_block(tmp_path):
    @keras.saving.register_keras_serializable(package="tests")
    class Residual(FeedForward):
        def call(self, inputs, mask=None, training=None):
            return inputs + super().call(inputs, training=training)

    encoder = built(Encoder([EncoderBlock(2, 16), Residual(4)]), (None, None, D))
    clone = Encoder.from_config(encoder.get_config())
    assert [type(block) for block in clone.blocks] == [EncoderBlock, Residual]
    inputs = normal(B, S, D)
    expected = encoder.blocks[1](encoder.blocks[0](inputs, mask=MASK))
    np.testing.assert_allclose(array(encoder(inputs, mask=MASK)), array(expected), atol=1e-6)


def test_no_blocks_are_refused():
    with pytest.raises(ValueError, match=r"blocks .*one"):
        Encoder([])


def test_the_attention_weights_are_those_of_each_block_on_what_reaches_it():
    encoder, inputs = built(make_encoder(), (None, None, D)), normal(B, S, D)
    first, second = encoder.attention_weights(inputs, mask=MASK)
    np.testing.assert_array_equal(first, encoder.blocks[0].attention_weights(inputs, mask=MASK))
    reached = encoder.blocks[0](inputs, mask=MASK)
    np.testing.assert_array_equal(second, encoder.blocks[1].attention_weights(reached, mask=MASK))
    assert not np.any(array(second)[~np.broadcast_to(MASK[:, None, None], (B, 2, S, S))])
