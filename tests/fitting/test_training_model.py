import keras
import numpy as np
import pytest

from ktransformer.config import TrainingConfig
from ktransformer.fitting import TrainingModel, compile_model, compile_training_model
from ktransformer.layers import PositionalEmbedding
from ktransformer.layers.projection import Projection
from ktransformer.models import Transformer
from tests.fitting.small_transformer import make_batch, make_model
from tests.layers.layer_checks import array
from tests.models.small_transformer import SIZES

CONFIG = TrainingConfig(learning_rate=0.01, warmup_steps=2)


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"tie_embeddings": False}, {"output_bias": True}])
def test_it_trains_as_the_model_compiled_with_a_loss_does(options):
    plain, lean = (make_model(**options) for _ in range(2))
    compile_model(plain, CONFIG)
    training_model = compile_training_model(lean, CONFIG)
    keras.utils.set_random_seed(1)
    expected = plain.fit(*make_batch(), batch_size=4, epochs=5, verbose=0).history
    keras.utils.set_random_seed(1)
    found = training_model.fit(*make_batch(), batch_size=4, epochs=5, verbose=0).history
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, err_msg=name)
    # Not the weights: the biases of keys have no gradient but rounding, which Adam makes large.
    inputs = make_batch()[0]
    np.testing.assert_allclose(lean(inputs), plain(inputs), atol=1e-3)


def _fit(weights, compile_it=compile_training_model):
    model = make_model(dropout=0.0)
    trained = compile_it(model, CONFIG) or model
    trained.fit(*make_batch(), sample_weight=weights, batch_size=4, epochs=2, verbose=0)
    return array(model(make_batch()[0]))


@pytest.mark.long
def test_weights_of_rows_give_the_updates_of_the_model_compiled_with_a_loss():
    weights = np.linspace(0.01, 0.2, len(make_batch()[1]))  # They sum to less than 1.
    found = _fit(weights)
    np.testing.assert_allclose(found, _fit(weights, compile_model), atol=1e-3)
    assert np.abs(found - _fit(None)).max() > 1e-2


def test_weights_of_1_change_no_bit():
    np.testing.assert_array_equal(_fit(np.ones(len(make_batch()[1]))), _fit(None))


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("mixed_float16", marks=pytest.mark.long)]
)
def test_an_output_bias_is_trained_without_all_logits(dtype):
    model = make_model(output_bias=True, dtype=dtype, dropout=0.0)
    inputs, labels = make_batch()
    assert model.has_plain_logits()
    training_model = TrainingModel(model, label_smoothing=0.1)
    training_model.compile(keras.optimizers.SGD(1.0))
    training_model.train_on_batch(inputs, labels)
    # Of zeros: the mean over the real tokens of the label's smoothed share less its probability.
    found = array(model.output_bias_weight)
    model = make_model(output_bias=True, dtype=dtype, dropout=0.0)
    real = labels != 0
    probabilities = array(keras.ops.softmax(keras.ops.cast(model(inputs), "float32")))[real]
    smoothed = 0.9 * np.eye(13)[labels[real]] + 0.1 / 13
    expected = (smoothed - probabilities).mean(axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6 if dtype == "float32" else 1e-3)


@pytest.mark.parametrize("pad_id", [0, 5])
def test_it_evaluates_as_the_model_compiled_with_a_loss_does(pad_id):
    model = make_model(pad_id=pad_id)
    compile_model(model, CONFIG)
    expected = model.evaluate(*make_batch(), batch_size=2, verbose=0, return_dict=True)
    training_model = compile_training_model(model, CONFIG)
    found = training_model.evaluate(*make_batch(), batch_size=2, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-5)


class SoftCapped(PositionalEmbedding):
    def logits(self, hidden):
        return 30.0 * keras.ops.tanh(super().logits(hidden) / 30.0)


class SoftCappedTransformer(Transformer):
    def make_embedding(self, name):
        return SoftCapped(self.vocabulary_size, self.d_model, max_length=self.max_length)


class DoublingTransformer(Transformer):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


@pytest.mark.parametrize("subclass", [SoftCappedTransformer, DoublingTransformer])
def test_logits_of_its_own_are_what_a_subclass_trains_on(subclass):
    model = subclass(**SIZES)
    assert compile_training_model(model, CONFIG) is model
    assert compile_training_model(make_model(), CONFIG) is not model


class SoftCappedProjection(Projection):
    def call(self, inputs, training=None):
        return 30.0 * keras.ops.tanh(super().call(inputs, training=training) / 30.0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Projection, {"use_bias": True}),
        (Projection, {"use_bias": False, "activation": "tanh"}),
        (SoftCappedProjection, {"use_bias": False}),
    ],
    ids=["bias", "activation", "subclass"],
)
def test_an_output_projection_of_its_own_is_what_a_subclass_trains_on(kind, options):
    class OwnProjection(Transformer):
        def make_output_projection(self):
            return kind(self.vocabulary_size, name="output", **options)

    model = OwnProjection(**SIZES, tie_embeddings=False)
    assert compile_training_model(model, CONFIG) is model
    plain = make_model(tie_embeddings=False)
    assert compile_training_model(plain, CONFIG) is not plain


def test_losses_that_layers_add_count():
    model = make_model(dropout=0.0)
    losses = []
    for penalty in (None, keras.regularizers.L2(1.0)):
        model.source_embedding.embeddings.regularizer = penalty
        training_model = compile_training_model(model, CONFIG)
        losses.append(training_model.evaluate(*make_batch(), verbose=0, return_dict=True)["loss"])
    penalty = float(keras.ops.sum(keras.ops.square(model.source_embedding.embeddings)))
    assert losses[1] - losses[0] == pytest.approx(penalty, rel=1e-4)


def test_its_weights_are_those_of_the_model_in_their_order():
    model = make_model()
    assert [id(w) for w in TrainingModel(model).weights] == [id(w) for w in model.weights]


def test_float_ids_are_not_rounded_to_half_precision():
    training_model = TrainingModel(make_model(vocabulary_size=600, dtype="mixed_bfloat16"))
    ids = np.array([[257, 299, 511]])
    ints = {"source": ids, "target": ids}
    floats = {name: values.astype("float32") for name, values in ints.items()}
    np.testing.assert_array_equal(array(training_model(floats)), array(training_model(ints)))


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(dtype):
    model = make_model(dtype=dtype)
    training_model = compile_training_model(model, CONFIG)
    scaled = isinstance(training_model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")
    losses = training_model.fit(*make_batch(), batch_size=4, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def fit(training_model, epochs, folder=None):
    """Trains without dropout, eagerly, and with Keras' own checkpoints in the folder if any."""
    callbacks = folder and [
        keras.callbacks.ModelCheckpoint(folder / "whole.keras"),
        keras.callbacks.ModelCheckpoint(folder / "only.weights.h5", save_weights_only=True),
    ]
    training_model.run_eagerly = True
    return training_model.fit(
        *make_batch(), batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks
    ).history


def assert_same_weights(model, other):
    assert len(model.weights) == len(other.weights)
    for weight, expected in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, expected, err_msg=weight.path)


def test_a_training_goes_on_from_the_checkpoint_that_keras_writes(tmp_path):
    training_model = compile_training_model(make_model(dropout=0.0), CONFIG)
    fit(training_model, 2, tmp_path)
    loaded = keras.saving.load_model(tmp_path / "whole.keras")
    assert isinstance(loaded.transformer, Transformer)
    assert loaded.label_smoothing == CONFIG.label_smoothing
    assert_same_weights(loaded, training_model)
    assert fit(loaded, 2) == fit(training_model, 2)
    assert_same_weights(loaded.transformer, training_model.transformer)


def test_weights_files_go_from_a_training_to_the_model_and_back(tmp_path):
    training_model = compile_training_model(make_model(), CONFIG)
    fit(training_model, 1, tmp_path)
    model = make_model()
    model.load_weights(tmp_path / "only.weights.h5")
    assert_same_weights(model, training_model)
    model.save_weights(tmp_path / "model.weights.h5")
    other = compile_training_model(make_model(), CONFIG)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same_weights(other, training_model)
    assert not hasattr(training_model.transformer, "optimizer")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_weights_file_holds_the_state_of_the_optimizer(compiled, tmp_path):
    """Keras' `BackupAndRestore` relies on it."""
    training_model = compile_training_model(make_model(), CONFIG)
    fit(training_model, 2, tmp_path)
    model = make_model()
    other = compile_training_model(model, CONFIG)
    if compiled:
        compile_model(model, CONFIG)
        other = model
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "only.weights.h5")
    saved = [array(variable) for variable in training_model.optimizer.variables]
    found = [array(variable) for variable in other.optimizer.variables]
    assert saved[0] == 2  # Updates.
    for value, expected in zip(found, saved, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("write", [keras.Model.save_weights, keras.Model.save])
def test_it_loads_weights_from_files_with_its_own_layout(write, tmp_path):
    """As an earlier version wrote them, and from a `.keras` file."""
    training_model = TrainingModel(make_model())
    name = "old.weights.h5" if write is keras.Model.save_weights else "whole.keras"
    write(training_model, tmp_path / name)
    other = TrainingModel(Transformer(**{**SIZES, "num_layers": 1}))
    other.build()
    other.load_weights(tmp_path / name)
    assert_same_weights(other, training_model)
    with pytest.raises(ValueError, match="could not be loaded"):
        TrainingModel(make_model(num_layers=2)).load_weights(tmp_path / name)
