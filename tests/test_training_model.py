import keras
import numpy as np
import pytest

from ktransformer.config import TrainingConfig
from ktransformer.fitting import TrainingModel, compile_model, compile_training_model
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
    model = Transformer(**{**SIZES, "dropout": 0.1, **options})
    model.build()
    return model


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


def test_it_evaluates_as_the_model_compiled_with_a_loss_does():
    model = make_model()
    compile_model(model, CONFIG)
    expected = model.evaluate(*make_batch(), batch_size=2, verbose=0, return_dict=True)
    training_model = compile_training_model(model, CONFIG)
    found = training_model.evaluate(*make_batch(), batch_size=2, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-5)


def test_its_weights_are_those_of_the_model_in_their_order():
    model = make_model()
    assert [id(w) for w in TrainingModel(model).weights] == [id(w) for w in model.weights]


def test_mixed_precision_trains():
    model = make_model(dtype="mixed_bfloat16")
    training_model = compile_training_model(model, CONFIG)
    losses = training_model.fit(*make_batch(), batch_size=4, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
