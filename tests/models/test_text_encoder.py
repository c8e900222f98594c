"""The text encoder and the classifier on it: token types, pooling, the head, and learning."""

import keras
import numpy as np
import pytest

from ktransformer.layers import EncoderBlock, PositionalEmbedding
from ktransformer.models import MaskedLanguageModel, SequenceClassifier, TextEncoder
from tests.layers.layer_checks import array, built

SIZES = {"num_layers": 2, "d_model": 8, "num_heads": 2, "hidden_dim": 16, "max_length": 8}
BERT = {
    "embedding_norm": True,
    "type_vocabulary_size": 2,
    "scale_embeddings": False,
    "epsilon": 1e-12,
}
IDS = np.array([[5, 11, 7, 3, 0, 0], [4, 9, 11, 6, 1, 3]], "int32")
TYPES = np.array([[0, 0, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]], "int32")


@pytest.fixture(scope="module")
def encoder():
    return built(TextEncoder(13, **SIZES, **BERT))


@pytest.fixture(scope="module")
def classifier():
    return built(SequenceClassifier(13, 3, **SIZES, **BERT))


def test_the_output_is_the_encoded_embedding(encoder):
    vectors = encoder.embedding(IDS, token_types=TYPES)
    expected = array(encoder.encoder(vectors, mask=IDS != 0))
    outputs = encoder({"ids": IDS, "token_types": TYPES})
    np.testing.assert_allclose(array(outputs), expected, atol=1e-6)


def test_token_types_are_0_unless_they_are_given(encoder):
    without = array(encoder({"ids": IDS}))
    zeros = array(encoder({"ids": IDS, "token_types": 0 * TYPES}))
    np.testing.assert_allclose(without, zeros, atol=1e-6)
    assert np.abs(array(encoder({"ids": IDS, "token_types": TYPES})) - without).max() > 0.1


def test_padding_changes_no_real_position(encoder):
    padded, types = np.pad(IDS, ((0, 0), (0, 2))), np.pad(TYPES, ((0, 0), (0, 2)))
    outputs = array(encoder({"ids": padded, "token_types": types}))[:, :6]
    expected = array(encoder({"ids": IDS, "token_types": TYPES}))
    np.testing.assert_allclose(outputs[IDS != 0], expected[IDS != 0], atol=1e-5)


@pytest.mark.parametrize("wrong", [[[0, 0, 2]], [[-1, 0, 1]]], ids=str)
def test_a_token_type_that_is_none_is_refused(encoder, wrong):
    with pytest.raises(ValueError, match=r"token_types.*\[0, 2\)"):
        encoder({"ids": IDS[:1, :3], "token_types": np.array(wrong)})


def test_token_types_for_a_model_without_any_are_refused():
    model = TextEncoder(13, **SIZES)
    with pytest.raises(ValueError, match=r"token_types.*type_vocabulary_size.*0"):
        model({"ids": IDS, "token_types": TYPES})


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_a_text_is_pooled_over_its_real_tokens(encoder, pooling):
    hidden = array(encoder.encode(IDS))
    take = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "cls": lambda x: x[0]}[pooling]
    expected = [take(hidden[0, :4]), take(hidden[1])]
    np.testing.assert_allclose(array(encoder.embed(IDS, pooling=pooling)), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_row_of_padding_is_pooled_to_zeros(encoder, pooling):
    nothing = np.zeros((1, 4), "int32")
    np.testing.assert_array_equal(array(encoder.embed(nothing, pooling=pooling)), np.zeros((1, 8)))


def test_an_unknown_pooling_is_refused(encoder):
    with pytest.raises(ValueError, match=r"pooling.*mean.*cls.*max.*'last'"):
        encoder.embed(IDS, pooling="last")
    with pytest.raises(ValueError, match=r"pooling.*'last'"):
        SequenceClassifier(13, 3, pooling="last", **SIZES)


def test_a_configuration_from_before_token_types_gives_the_same_model():
    model = built(MaskedLanguageModel(13, **SIZES))
    config = model.get_config()
    for name in ("embedding_norm", "type_vocabulary_size"):
        del config[name]
    old = MaskedLanguageModel.from_config(config)
    old.build()
    assert type(old.embedding) is PositionalEmbedding
    old.set_weights(model.get_weights())
    np.testing.assert_array_equal(array(old.encode(IDS)), array(model.encode(IDS)))


def test_a_masked_language_model_takes_token_types():
    model = built(MaskedLanguageModel(13, **SIZES, **BERT))
    inputs = {"ids": IDS, "positions": np.array([[1], [2]]), "token_types": TYPES}
    hidden = array(model.encode(IDS, token_types=TYPES))[np.arange(2), [1, 2]][:, None]
    np.testing.assert_allclose(array(model(inputs)), array(model.logits(hidden)), atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_head_sees_a_dense_layer_with_tanh_over_the_pooled_vector(pooling):
    model = built(SequenceClassifier(13, 3, pooling=pooling, **SIZES, **BERT))
    pooled = array(model.embed(IDS, pooling=pooling, token_types=TYPES))
    kernel, bias, head, head_bias = (array(w) for w in (*model.pooler.weights, *model.head.weights))
    expected = np.tanh(pooled @ kernel + bias) @ head + head_bias
    logits = model({"ids": IDS, "token_types": TYPES})
    np.testing.assert_allclose(array(logits), expected, atol=1e-5)


def test_a_classifier_starts_from_a_trained_encoder(encoder):
    model = SequenceClassifier.from_encoder(encoder, 3, pooling="mean", head_dropout=0.4)
    np.testing.assert_array_equal(array(model.encode(IDS)), array(encoder.encode(IDS)))
    assert (model.pooled_dropout.rate, model.dropout) == (0.4, 0.1)
    other = SequenceClassifier.from_encoder(built(MaskedLanguageModel(13, **SIZES)), 2)
    assert array(other({"ids": IDS})).shape == (2, 2)


class DoublingBlock(EncoderBlock):
    def after_sublayer(self, norm, inputs, outputs):
        return 2 * super().after_sublayer(norm, inputs, outputs)


class WithDoublingBlocks:
    def make_encoder_block(self):
        return DoublingBlock(**self.block_arguments())


class DoublingEncoder(WithDoublingBlocks, TextEncoder):
    pass


class DoublingClassifier(WithDoublingBlocks, SequenceClassifier):
    pass


def test_a_classifier_has_the_parts_of_the_encoder_or_refuses_it():
    encoder = built(DoublingEncoder(13, **SIZES, **BERT))
    model = DoublingClassifier.from_encoder(encoder, 3)
    np.testing.assert_array_equal(array(model.encode(IDS)), array(encoder.encode(IDS)))
    with pytest.raises(ValueError, match="DoublingEncoder overrides make_encoder_block"):
        SequenceClassifier.from_encoder(encoder, 3)


@pytest.mark.parametrize("name", ["make_embedding", "make_encoder", "make_final_norm"])
def test_an_encoder_with_any_part_of_its_own_is_refused(name):
    own = {name: lambda self, *arguments: getattr(TextEncoder, name)(self, *arguments)}
    encoder = built(type("OwnEncoder", (TextEncoder,), own)(13, **SIZES))
    with pytest.raises(ValueError, match=f"OwnEncoder overrides {name}"):
        SequenceClassifier.from_encoder(encoder, 3)


def test_a_saved_classifier_loads_with_the_same_config_and_logits(classifier, tmp_path):
    classifier.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == classifier.get_config()
    np.testing.assert_array_equal(array(loaded({"ids": IDS})), array(classifier({"ids": IDS})))


@pytest.mark.long
def test_fit_learns_which_token_a_text_begins_with():
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(0)
    ids = random.integers(4, 13, size=(64, 5)).astype("int32")
    types = np.repeat([[0, 0, 1, 1, 1]], 64, axis=0)
    model = SequenceClassifier(13, 2, **{**SIZES, "num_layers": 1}, **BERT)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    inputs, labels = {"ids": ids, "token_types": types}, (ids[:, 0] > 8).astype("int32")
    model.fit(inputs, labels, epochs=12, verbose=0)
    assert model.evaluate(inputs, labels, verbose=0)[1] > 0.95
