import keras
import numpy as np
import pytest

from ktransformer.config import TrainingConfig
from ktransformer.fitting import TrainingModel, compile_model, compile_training_model
from ktransformer.layers import PositionalEmbedding
from ktransformer.models import Transformer
from tests.models.test_transformer import SIZES

CONFIG = TrainingConfig(learning_rate=0.01, warmup_steps=2)


def make_batch(rows=4, length=6):
    random = np.random.default_rng(0)
    source, labels = random.integers(4, 11, size=(2, rows, length)).astype("int32")
    source[1, 3:] = labels[0, 4:] = labels[3, 2:] = 0
    target = np.where(labels == 0, 0, np.roll(labels, 1, axis=1)).astype("int32")
    target[:, 0] = 2
    return {"source": source, "target": target}, labels


def make_model(**options) -> Transformer:
    keras.utils.set_random_seed(0)
    model = Transformer(**{**SIZES, "num_layers": 1, "dropout": 0.1, **options})
    model.build()
    return model


@pytest.mark.long
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_it_trains_as_the_model_compiled_with_a_loss_does(tie_embeddings):
    plain, lean = (make_model(tie_embeddings=tie_embeddings) for _ in range(2))
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


def test_a_sample_weight_is_not_ignored():
    training_model = compile_training_model(make_model(), CONFIG)
    training_model.run_eagerly = True
    with pytest.raises(ValueError, match="takes no sample_weight; use compile_model"):
        training_model.fit(*make_batch(), sample_weight=np.ones(4), verbose=0)


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


@pytest.mark.parametrize(
    "dtype", [pytest.param("mixed_bfloat16", marks=pytest.mark.long), "mixed_float16"]
)
def test_mixed_precision_trains(dtype):
    model = make_model(dtype=dtype)
    training_model = compile_training_model(model, CONFIG)
    scaled = isinstance(training_model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")
    losses = training_model.fit(*make_batch(), batch_size=4, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
