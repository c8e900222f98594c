"""The causal language model: causality, the cache, packed rows, sizes, training and saving."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from ktransformer.fitting.training_model import TrainingModel
from ktransformer.layers import DecoderBlock, PositionEncoding
from ktransformer.losses import SmoothedCrossEntropy
from ktransformer.models import CausalLanguageModel, check_decoding
from tests.layers.layer_checks import POLICIES, TOLERANCE, array, built, compiled

V, START = 13, 1
SIZES = {"num_layers": 2, "d_model": 8, "num_heads": 2, "hidden_dim": 12, "max_length": 12}
IDS = np.array([[1, 6, 8, 4, 9], [1, 2, 3, 0, 0]], "int32")
LLAMA = {
    "norm": "rms",
    "feed_forward": "swiglu",
    "use_bias": False,
    "positions": "rotary",
    "num_kv_heads": 1,
}
OPTIONS = [
    {},
    LLAMA,
    {"norm_first": False, "feed_forward": "geglu", "positions": "relative"},
    {
        "tie_embeddings": False,
        "output_bias": True,
        "positions": "alibi",
        "scale_embeddings": True,
    },
    {"segment_start_id": START, "pad_id": 5, "positions": "sinusoidal"},
]
with_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
with_some_options = pytest.mark.parametrize("options", OPTIONS[1:3], ids=str)


def make_model(**options):
    return built(CausalLanguageModel(V, **{**SIZES, **options}))


def decode_in_steps(model, ids, step=None):
    """Feeds ids `[B, T]` to the cache one by one: logits `[B, T, V]`."""
    rows, length = ids.shape
    state, logits, step = model.empty_state(rows, length), [], step or model.step
    for index in range(length):
        newest = ops.convert_to_tensor(ids[:, index])
        found, state = step(newest, ops.convert_to_tensor(index, "int32"), state)
        logits.append(array(found))
    return np.stack(logits, axis=1)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_future_does_not_leak(policy):
    model, changed = make_model(dtype=policy), IDS.copy()
    changed[:, 3:] = 7
    before, after = array(model(IDS)), array(model(changed))
    limit = TOLERANCE[policy] * np.abs(before).max()
    np.testing.assert_allclose(after[:, :3], before[:, :3], atol=limit)
    assert np.abs(after[:, 3:] - before[:, 3:]).max() > 1e-2


def test_a_longer_padding_changes_no_real_position():
    model = make_model()
    padded = array(model(np.pad(IDS, ((0, 0), (0, 3)))))
    np.testing.assert_allclose(padded[:, :5], array(model(IDS)), atol=1e-5)


def test_the_logits_carry_the_mask_of_the_ids():
    np.testing.assert_array_equal(make_model()(IDS)._keras_mask, IDS != 0)


@with_options
def test_steps_through_the_cache_equal_the_full_call(options):
    assert check_decoding(make_model(**options), columns=True) < 1e-5


@pytest.mark.parametrize("mode", ["function", "jit"])
def test_compiled_steps_equal_the_full_call(mode):
    model = make_model()
    step = compiled(lambda ids, index, state: model.step(ids, index, state), mode)
    np.testing.assert_allclose(
        decode_in_steps(model, IDS[:1], step), array(model(IDS[:1])), atol=1e-5
    )


def test_prompts_of_several_lengths_continue_as_each_would_alone():
    """A row writes its own tokens while another still reads its prompt."""
    model, prompts = make_model(), ([1, 6, 8], [1, 2, 3, 7, 9])
    alone = [continued(model, [prompt], 8)[0] for prompt in prompts]
    np.testing.assert_array_equal(continued(model, prompts, 8), alone)


def continued(model, prompts, length):
    """Continues prompts greedily up to a length: ids `[B, length]`."""
    forced = np.zeros((len(prompts), length), "int32")
    for row, prompt in zip(forced, prompts, strict=True):
        row[: len(prompt)] = prompt
    state, ids = model.empty_state(len(prompts), length), [forced[:, 0]]
    for index in range(length - 1):
        logits, state = model.step(ids[-1], index, state)
        best = array(logits)[:, 1:].argmax(-1) + 1  # Not the padding.
        ids.append(np.where(forced[:, index + 1] > 0, forced[:, index + 1], best).astype("int32"))
    return np.stack(ids, axis=1)


@dataclasses.dataclass(frozen=True)
class FirstKey(PositionEncoding):
    """Raises the scores of the key at position 0."""

    def bias(self, layer, positions):
        return ops.where(ops.equal(positions.keys, 0), 1.0, 0.0)[None, None]


@dataclasses.dataclass(frozen=True)
class Neighbour(PositionEncoding):
    """Raises the scores of the key before the query."""

    relative = True

    def bias(self, layer, positions):
        distances = positions.queries[:, None] - positions.keys[None, :]
        return ops.where(ops.equal(distances, 1), 1.0, 0.0)[None]


@pytest.mark.parametrize(
    "positions",
    ["none", "learned", "sinusoidal", "rotary", "relative", "alibi", Neighbour()],
    ids=str,
)
def test_a_text_of_a_packed_row_gives_what_it_gives_alone(positions):
    model = make_model(segment_start_id=START, positions=positions)
    packed = np.array([[1, 6, 8, 1, 2, 3, 7, 0]], "int32")
    logits = array(model(packed))[0]
    np.testing.assert_allclose(logits[:3], array(model(packed[:, :3]))[0], atol=1e-5)
    np.testing.assert_allclose(logits[3:7], array(model(packed[:, 3:7]))[0], atol=1e-5)


def test_attention_that_counts_from_the_row_is_refused_for_packed_rows():
    with pytest.raises(ValueError, match=r"segment_start_id .*relative.*FirstKey"):
        make_model(segment_start_id=START, positions=FirstKey())
    assert check_decoding(make_model(positions=FirstKey())) < 1e-5


def test_without_a_segment_start_a_text_of_a_packed_row_sees_those_before():
    model, packed = make_model(positions="none"), np.array([[1, 6, 8, 1, 2, 3]], "int32")
    alone = array(model(packed[:, 3:]))[0]
    assert np.abs(array(model(packed))[0, 3:] - alone).max() > 1e-2


def test_the_mask_of_packed_rows_pairs_the_tokens_of_one_text():
    model = make_model(segment_start_id=START)
    mask = array(model.attention_mask(np.array([[1, 6, 1, 2, 0]], "int32")))[0]
    pairs = [[1, 1, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 0]] * 3
    np.testing.assert_array_equal(mask, pairs)


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [
        ("small", 124_439_808),
        pytest.param("medium", 354_823_168, marks=pytest.mark.long),
    ],
)
def test_the_presets_have_the_parameters_of_gpt_2(preset, parameters):
    """The model is built with a vocabulary of 8; each other id of GPT-2's 50,257 adds a row."""
    model = CausalLanguageModel.from_preset(preset, 8)
    model.build()
    assert model.count_params() + (50_257 - 8) * model.d_model == parameters


@with_some_options
def test_it_trains(options):
    keras.utils.set_random_seed(0)
    model = CausalLanguageModel(V, **{**SIZES, "num_layers": 1, "dropout": 0.0, **options})
    generator = np.random.default_rng(1)
    ids = generator.integers(6, V, (8, 1)) + np.arange(6)  # Each token follows from the last.
    ids = np.where(ids < V, ids, ids - 7).astype("int32")
    inputs = np.concatenate([np.full((8, 1), START, "int32"), ids[:, :-1]], axis=1)
    model.compile(keras.optimizers.Adam(1e-2), SmoothedCrossEntropy(0.0), run_eagerly=True)
    losses = model.fit(inputs, ids, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_every_weight_has_a_gradient():
    model = make_model(**LLAMA, tie_embeddings=False)
    with tf.GradientTape() as tape:
        loss = SmoothedCrossEntropy(0.1)(IDS, model(IDS))
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None, weight.path
        assert np.any(array(tf.convert_to_tensor(gradient))), weight.path


def test_training_without_logits_has_the_loss_of_the_logits():
    model, labels = make_model(dropout=0.0), np.array([[6, 8, 4, 9, 2], [2, 3, 2, 0, 0]])
    assert model.has_plain_logits()
    training_model = TrainingModel(model, label_smoothing=0.1)
    loss = training_model.compute_loss(y=labels, y_pred=training_model(IDS), training=False)
    expected = SmoothedCrossEntropy(0.1)(labels, model(IDS))
    np.testing.assert_allclose(float(loss), float(expected), rtol=1e-5)


@with_some_options
def test_a_saved_model_loads_with_the_same_config_and_logits(options, tmp_path):
    model = make_model(**options)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(array(loaded(IDS)), array(model(IDS)))


@keras.saving.register_keras_serializable(package="tests")
class ScaledBlock(DecoderBlock):
    def after_sublayer(self, norm, inputs, outputs):
        return inputs + 0.5 * outputs


@keras.saving.register_keras_serializable(package="tests")
class ScaledLanguageModel(CausalLanguageModel):
    def make_decoder_block(self):
        return ScaledBlock(**self.block_arguments())


def test_a_subclass_with_other_blocks_decodes_and_saves(tmp_path):
    model = built(ScaledLanguageModel(V, **SIZES))
    assert check_decoding(model) < 1e-5
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.decoder.blocks[0]) is ScaledBlock
    np.testing.assert_array_equal(array(loaded(IDS)), array(model(IDS)))


def test_a_subclass_that_overrides_whole_sequences_alone_is_refused():
    class Capped(CausalLanguageModel):
        def hidden_states(self, inputs, training=None):
            return ops.tanh(super().hidden_states(inputs, training=training))

    with pytest.raises(NotImplementedError, match=r"Capped overrides hidden_states.* step"):
        check_decoding(built(Capped(V, **SIZES)))
