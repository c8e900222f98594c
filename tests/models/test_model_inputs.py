"""What a model is called with: an error says what was expected and what came."""

import keras
import numpy as np
import pytest

from ktransformer.models import (
    CausalLanguageModel,
    MaskedLanguageModel,
    SequenceClassifier,
    TextEncoder,
    Transformer,
    VisionTransformer,
)
from tests.layers.layer_checks import array

SIZES = {"num_layers": 1, "d_model": 8, "num_heads": 2, "hidden_dim": 16}
IDS = np.ones((2, 5), "int32")
IMAGES = np.zeros((2, 4, 4, 3), "float32")
NAMES = {Transformer: ("source", "target"), MaskedLanguageModel: ("ids", "positions")}
of_texts = pytest.mark.parametrize("model_class", NAMES, ids=lambda c: c.__name__)


def make(model_class):
    if model_class is VisionTransformer:
        return VisionTransformer(3, image_size=4, patch_size=2, **SIZES)
    return model_class(13, max_length=8, **SIZES)


@of_texts
@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        ((IDS, IDS), "tuple of 2"),
        ([IDS, IDS], "list of 2"),
        (IDS, r"tensor of shape \(2, 5\)"),
        ({"a": IDS}, r"keys \['a'\]"),
    ],
    ids=["tuple", "list", "tensor", "other keys"],
)
def test_inputs_other_than_the_named_ones_are_refused(model_class, inputs, got):
    first, second = NAMES[model_class]
    with pytest.raises((TypeError, ValueError), match=rf"'{first}'.*'{second}'.*got .*{got}"):
        make(model_class)(inputs)


@of_texts
def test_a_missing_input_is_named(model_class):
    first, second = NAMES[model_class]
    with pytest.raises(ValueError, match=rf"'{second}'.*\['{first}'\]"):
        make(model_class)({first: IDS})


@of_texts
def test_a_missing_symbolic_input_is_named(model_class):
    first, second = NAMES[model_class]
    with pytest.raises(ValueError, match=rf"'{second}'.*\['{first}'\]"):
        make(model_class)({first: keras.Input((None,), dtype="int32")})


@of_texts
def test_ids_of_one_axis_are_refused(model_class):
    first, second = NAMES[model_class]
    with pytest.raises(ValueError, match=rf"{first} .*\[B, .\].*\(5,\)"):
        make(model_class)({first: IDS[0], second: IDS[0]})


@pytest.mark.parametrize("model_class", [*NAMES, VisionTransformer], ids=lambda c: c.__name__)
def test_a_second_positional_argument_is_refused(model_class):
    inputs = IMAGES if model_class is VisionTransformer else IDS
    with pytest.raises(TypeError, match=rf"{model_class.__name__} .*\[B, .*got 2"):
        make(model_class)(inputs, IDS)


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        (IMAGES[0], r"\(4, 4, 3\)"),
        ({"images": IMAGES}, "dict of 1"),
        ((IMAGES, IDS), "tuple of 2"),
    ],
    ids=["one image", "dict", "tuple"],
)
def test_other_than_a_batch_of_images_is_refused(inputs, got):
    with pytest.raises((TypeError, ValueError), match=rf"\[B, h, w, C\].*{got}"):
        make(VisionTransformer)(inputs)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_position_outside_the_text_is_refused(wrong):
    with pytest.raises(ValueError, match=rf"positions .*\[0, 5\).*{wrong}"):
        make(MaskedLanguageModel)({"ids": IDS, "positions": np.array([[1, wrong]])})


LONG_IDS = np.arange(297, 597)[None]  # bfloat16 rounds most of them.


@pytest.mark.parametrize(
    ("model_class", "inputs", "options"),
    [
        (Transformer, {"source": LONG_IDS, "target": LONG_IDS}, {}),
        (CausalLanguageModel, LONG_IDS, {}),
        (TextEncoder, {"ids": LONG_IDS}, {}),
        (MaskedLanguageModel, {"ids": LONG_IDS, "positions": np.array([[257, 299]])}, {}),
        (SequenceClassifier, {"ids": LONG_IDS}, {"num_classes": 3}),
    ],
)
def test_float_ids_are_not_rounded_to_half_precision(model_class, inputs, options):
    model = model_class(600, max_length=300, dtype="mixed_bfloat16", **options, **SIZES)
    floats = keras.tree.map_structure(lambda ids: ids.astype("float32"), inputs)
    np.testing.assert_array_equal(array(model(floats)), array(model(inputs)))


@keras.saving.register_keras_serializable("tests")
class Wrapper(keras.Model):
    """Uses a model through `encode` alone, and says nothing of how it is built."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, inputs):
        return self.inner.encode(inputs)

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


@pytest.mark.parametrize("model_class", [*NAMES, VisionTransformer], ids=lambda c: c.__name__)
def test_a_model_that_is_only_encoded_with_keeps_its_weights(model_class, tmp_path):
    inputs = IMAGES if model_class is VisionTransformer else IDS
    wrapper = Wrapper(make(model_class))
    expected = wrapper(inputs)
    wrapper.save(tmp_path / "wrapper.keras")
    loaded = keras.saving.load_model(tmp_path / "wrapper.keras")
    np.testing.assert_array_equal(loaded(inputs), expected)
