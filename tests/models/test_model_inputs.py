"""What a model is called with: an error says what was expected and what came."""

import keras
import numpy as np
import pytest

from ktransformer.models import MaskedLanguageModel, Transformer, VisionTransformer

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
    with pytest.raises(ValueError, match=rf"'{second}'.*got the keys \['{first}'\]"):
        make(model_class)({first: IDS})


@of_texts
def test_a_missing_symbolic_input_is_named(model_class):
    first, second = NAMES[model_class]
    with pytest.raises(ValueError, match=rf"'{second}'.*got the keys \['{first}'\]"):
        make(model_class)({first: keras.Input((None,), dtype="int32")})


@of_texts
def test_ids_of_one_axis_are_refused(model_class):
    first, second = NAMES[model_class]
    with pytest.raises(ValueError, match=rf"{first} .*\[B, .\]; got \(5,\)"):
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
    with pytest.raises((TypeError, ValueError), match=rf"\[B, h, w, C\]; got {got}"):
        make(VisionTransformer)(inputs)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_position_outside_the_text_is_refused(wrong):
    with pytest.raises(ValueError, match=rf"positions must be in \[0, 5\); got {wrong}"):
        make(MaskedLanguageModel)({"ids": IDS, "positions": np.array([[1, wrong]])})
