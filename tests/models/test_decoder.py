"""The stack of decoder blocks: both masks, causality, and the cache."""

import keras
import numpy as np
import pytest
from keras import ops

from ktransformer.layers import DecoderBlock, EncoderBlock, PositionalEmbedding
from ktransformer.layers.cache import memory_mask_penalty
from ktransformer.models import Decoder, Encoder
from tests.layers.layer_checks import (
    MODES,
    POLICIES,
    POLICIES_AND_MODES,
    TOLERANCE,
    array,
    built,
    check_layer,
    compiled,
    normal,
    randomize,
    with_same_noise,
)

B, T, S, D = 2, 5, 6, 8
SOURCE = np.array([[5, 0, 7, 3, 0, 0], [4, 9, 2, 6, 1, 0]], "int32")
TARGET = np.array([[1, 6, 0, 4, 0], [1, 2, 3, 7, 8]], "int32")  # A pad in the middle, too.
SOURCE_MASK, MASK = SOURCE != 0, TARGET != 0
NORMS = pytest.mark.parametrize("norm_first", [False, True], ids=["post_norm", "pre_norm"])


def make_decoder(norm_first=False, policy="float32", **options):
    blocks = [DecoderBlock(2, 16, norm_first=norm_first, dtype=policy, **options) for _ in range(2)]
    norm = keras.layers.LayerNormalization(dtype=policy) if norm_first else None
    return Decoder(blocks, final_norm=norm, dtype=policy)


def built_decoder(*arguments, **options):
    return built(make_decoder(*arguments, **options), (None, None, D), (None, None, D))


def make_embedding():
    return PositionalEmbedding(10, D, max_length=8)


@keras.saving.register_keras_serializable(package="tests")
class SubclassedDecoder(keras.Model):
    """Source and target ids to vectors; nobody mentions a mask."""

    def __init__(self, norm_first, **kwargs):
        super().__init__(**kwargs)
        self.norm_first = norm_first
        self.embedding = make_embedding()
        self.encoder = Encoder([EncoderBlock(2, 16)])
        self.decoder = make_decoder(norm_first)

    def build(self, input_shape):
        vectors = (None, None, D)
        self.embedding.build((None, None))
        self.encoder.build(vectors)
        self.decoder.build(vectors, vectors)

    def call(self, inputs):
        source, target = inputs
        return self.decoder(self.embedding(target), self.encoder(self.embedding(source)))

    def get_config(self):
        return {**super().get_config(), "norm_first": self.norm_first}


def functional_decoder(norm_first):
    """The same as a functional model."""
    source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
    embedding = make_embedding()
    memory = Encoder([EncoderBlock(2, 16)])(embedding(source))
    return keras.Model([source, target], make_decoder(norm_first)(embedding(target), memory))


@pytest.mark.parametrize("norm_first", [False, pytest.param(True, marks=pytest.mark.long)])
def test_it_is_a_layer_like_any_other(norm_first, tmp_path):
    check_layer(
        lambda policy: make_decoder(norm_first, policy, dropout=0.1),
        [normal(B, T, D), normal(B, S, D, seed=1)],
        (B, T, D),
        tmp_path,
    )


@NORMS
def test_it_is_its_blocks_one_after_the_other_and_the_norm(norm_first):
    decoder = built_decoder(norm_first)
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    masks = {"inputs_mask": MASK, "memory_mask": SOURCE_MASK}
    hidden = inputs
    for block in decoder.blocks:
        hidden = block(hidden, memory, **masks)
    if norm_first:
        hidden = decoder.final_norm(hidden)
    np.testing.assert_allclose(array(decoder(inputs, memory, **masks)), array(hidden), atol=1e-6)


@pytest.mark.parametrize(("policy", "mode"), POLICIES_AND_MODES)
@NORMS
def test_padding_does_not_change_real_positions(norm_first, policy, mode):
    decoder = built_decoder(norm_first, policy)
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)

    def decode(vectors, memory):
        return decoder(vectors, memory, inputs_mask=MASK, memory_mask=SOURCE_MASK)

    decode = compiled(decode, mode)
    expected = array(decode(inputs, memory))[MASK]
    changed = np.where(MASK[..., None], inputs, 7 * normal(B, T, D, seed=5))
    np.testing.assert_allclose(
        array(decode(changed, memory))[MASK], expected, atol=TOLERANCE[policy]
    )
    changed = np.where(SOURCE_MASK[..., None], memory, 7 * normal(B, S, D, seed=5))
    np.testing.assert_allclose(
        array(decode(inputs, changed))[MASK], expected, atol=TOLERANCE[policy]
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("training", [False, True])
@NORMS
def test_the_future_does_not_leak(norm_first, training, mode):
    rate = {"dropout": 0.2, "attention_dropout": 0.2, "hidden_dropout": 0.2}
    decoder, memory = built_decoder(norm_first, **rate), normal(B, S, D, seed=1)
    decode = compiled(lambda vectors: decoder(vectors, memory, training=training), mode)
    decode = with_same_noise(decoder, decode)
    inputs = normal(B, T, D)
    changed = np.concatenate([inputs[:, :3], 7 * normal(B, T - 3, D, seed=5)], axis=1)
    before, after = decode(inputs), decode(changed)
    np.testing.assert_allclose(after[:, :3], before[:, :3], atol=1e-6)
    assert np.abs(after[:, 3:] - before[:, 3:]).max() > 1e-2
    still = array(decoder(inputs, memory))
    assert (np.abs(before - still).max() > 1e-2) == training  # Dropout was on in training alone.


@pytest.mark.parametrize("policy", POLICIES)
@NORMS
def test_masks_that_show_nothing_give_finite_outputs(norm_first, policy):
    decoder = built_decoder(norm_first, policy)
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    nothing = {"inputs_mask": np.zeros((B, T), bool), "memory_mask": np.zeros((B, S), bool)}
    assert np.isfinite(array(decoder(inputs, memory, **nothing))).all()
    vectors = ops.cast(memory, decoder.compute_dtype)
    outputs, _ = decoder.step(
        ops.cast(inputs[:, :1], decoder.compute_dtype),
        decoder.empty_state(B, T),
        0,
        decoder.project_memory(vectors, nothing["memory_mask"]),
        memory_mask_penalty(nothing["memory_mask"]),
    )
    assert np.isfinite(array(outputs)).all()


@pytest.mark.parametrize(("policy", "mode"), POLICIES_AND_MODES)
@NORMS
def test_steps_through_the_cache_equal_the_full_call(norm_first, policy, mode):
    decoder = built_decoder(norm_first, policy)
    inputs = ops.cast(normal(B, T, D), decoder.compute_dtype)
    memory = ops.cast(normal(B, S, D, seed=1), decoder.compute_dtype)
    memories, state = decoder.project_memory(memory, SOURCE_MASK), decoder.empty_state(B, T)

    def decode(vectors, state, index):
        return decoder.step(vectors, state, index, memories, memory_mask_penalty(SOURCE_MASK))

    decode, outputs = compiled(decode, mode), []
    for index in range(T):
        position = ops.convert_to_tensor(index, "int32")
        output, state = decode(inputs[:, index : index + 1], state, position)
        outputs.append(array(output))
    np.testing.assert_allclose(
        np.concatenate(outputs, axis=1),
        array(decoder(inputs, memory, memory_mask=SOURCE_MASK)),
        atol=TOLERANCE[policy],
    )


def test_steps_add_up_the_attention_of_the_last_block():
    decoder = built_decoder()
    inputs, memory = normal(B, T, D), normal(B, S, D, seed=1)
    memories = decoder.project_memory(memory, SOURCE_MASK)
    state = decoder.empty_state(B, T)._replace(attention=ops.zeros((B, 1, S)))
    for i in range(T):
        penalty = memory_mask_penalty(SOURCE_MASK)
        _, state = decoder.step(inputs[:, i : i + 1], state, i, memories, penalty)
    first, last = decoder.blocks
    hidden = first(inputs, memory, memory_mask=SOURCE_MASK)
    weights = last.cross_attention_weights(hidden, memory, memory_mask=SOURCE_MASK)
    expected = array(weights).mean(axis=1).sum(axis=1)  # [B, S]
    np.testing.assert_allclose(array(state.attention)[:, 0], expected, rtol=1e-4, atol=1e-6)


def test_attention_of_a_decoder_without_a_memory_is_an_error():
    decoder = built(make_decoder(), (None, None, D))
    state = decoder.empty_state(B, T)._replace(attention=ops.zeros((B, 1, S)))
    with pytest.raises(ValueError, match=r"cross_weights.*0 of 2"):
        decoder.step(normal(B, 1, D), state, 0)


@pytest.mark.parametrize(
    ("make_model", "saved"),
    [
        (functional_decoder, False),
        (functional_decoder, True),
        (SubclassedDecoder, False),
        (SubclassedDecoder, True),
    ],
)
@NORMS
def test_the_masks_of_the_ids_reach_every_block(norm_first, make_model, saved, tmp_path):
    model = make_model(norm_first)
    model([SOURCE, TARGET])
    randomize(model)
    if saved:
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    outputs = model([SOURCE, TARGET])
    np.testing.assert_array_equal(outputs._keras_mask, MASK)
    before = array(outputs)
    # Another vector for the pad id, which only the padded positions may notice.
    (embedding,) = (w for w in model.trainable_weights if w.name == "embeddings")
    embedding.assign(np.concatenate([normal(1, D, seed=5), array(embedding)[1:]]))
    after = array(model([SOURCE, TARGET]))
    np.testing.assert_allclose(after[MASK], before[MASK], atol=1e-5)
    assert np.abs(after[~MASK] - before[~MASK]).max() > 1e-2


def test_no_blocks_are_refused():
    with pytest.raises(ValueError, match=r"blocks .*one"):
        Decoder([])
