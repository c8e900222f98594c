"""Patches in their order, the class token, and positions for any size of image."""

import keras
import numpy as np
import pytest
from keras import ops

from ktransformer.layers import PatchEmbedding
from tests.layers.layer_checks import (
    POLICIES,
    POLICIES_AND_MODES,
    TOLERANCE,
    array,
    built,
    check_layer,
    compiled,
    normal,
)

# A grey image of 4 x 6: the tens count the rows, the ones the columns.
COUNTED = np.array([[10 * row + column for column in range(6)] for row in range(4)], "float32")
PATCHES = [
    [0, 1, 10, 11],
    [2, 3, 12, 13],
    [4, 5, 14, 15],
    [20, 21, 30, 31],
    [22, 23, 32, 33],
    [24, 25, 34, 35],
]


def make(image_size=(4, 6), **options):
    """Makes a layer with patches of 2 x 2 and random weights."""
    return built(PatchEmbedding(8, 2, **{"image_size": image_size, "channels": 1, **options}))


def with_positions(layer, table):
    """Gives the patches of the layer (not the class token) the positions of a table."""
    values = array(layer.position_embeddings)
    values[-len(table) :] = table
    layer.position_embeddings.assign(values)
    return layer


@pytest.mark.parametrize("class_token", [True, False])
def test_it_is_a_layer_like_any_other(class_token, tmp_path):
    check_layer(
        lambda dtype: PatchEmbedding(
            8, 2, image_size=(4, 6), channels=1, class_token=class_token, dropout=0.3, dtype=dtype
        ),
        [normal(2, 4, 6, 1)],
        (2, 6 + class_token, 8),
        tmp_path,
    )


def test_patches_come_row_by_row_and_their_pixels_too():
    images = np.stack([COUNTED, COUNTED + 100])[..., None]
    patches = array(make().flatten_patches(images))
    np.testing.assert_array_equal(patches, [*PATCHES, *(np.array(PATCHES) + 100)])


def test_the_channels_of_a_pixel_stay_together():
    images = np.stack([COUNTED, COUNTED + 0.5], axis=-1)[None]
    patches = array(make(channels=2).flatten_patches(images))
    np.testing.assert_array_equal(patches[1], [2, 2.5, 3, 3.5, 12, 12.5, 13, 13.5])


def test_a_vector_is_the_projected_patch_plus_its_position():
    layer = make(class_token=False)
    kernel, bias = layer.projection.get_weights()
    expected = PATCHES @ kernel + bias + array(layer.position_embeddings)
    np.testing.assert_allclose(array(layer(COUNTED[None, ..., None]))[0], expected, rtol=1e-5)


def test_the_projection_equals_a_convolution_whose_stride_is_its_kernel():
    layer, images = make((4, 6), channels=3, class_token=False), normal(2, 4, 6, 3)
    kernel, bias = layer.projection.get_weights()
    convolved = ops.conv(images, kernel.reshape(2, 2, 3, 8), strides=2, data_format="channels_last")
    expected = array(convolved).reshape(2, 6, 8) + bias + array(layer.position_embeddings)
    np.testing.assert_allclose(array(layer(images)), expected, atol=1e-5)


def test_the_class_token_comes_first_and_is_the_same_for_every_image():
    layer = make()
    vectors = array(layer(normal(2, 4, 6, 1)))
    expected = array(layer.class_embedding)[0] + array(layer.position_embeddings)[0]
    np.testing.assert_allclose(vectors[:, 0], [expected, expected], atol=1e-6)


def test_fresh_positions_are_small_and_the_class_token_is_zero():
    layer = PatchEmbedding(64, 2, image_size=32)
    layer.build()
    assert 0.018 < array(layer.position_embeddings).std() < 0.022
    np.testing.assert_array_equal(array(layer.class_embedding), np.zeros((1, 64)))


def test_at_the_trained_size_the_positions_are_the_table_itself():
    layer = make()
    np.testing.assert_array_equal(
        array(layer.positions(2, 3)), array(layer.position_embeddings)[1:]
    )


@pytest.mark.parametrize("grid", [(2, 6), (5, 3), (1, 1), (7, 8)], ids=str)
def test_a_constant_table_stays_constant_in_another_grid(grid):
    layer = with_positions(make(), np.tile(np.arange(8.0), (6, 1)))
    expected = np.tile(np.arange(8.0), (grid[0] * grid[1], 1))
    np.testing.assert_allclose(array(layer.positions(*grid)), expected, atol=1e-6)


def test_twice_the_columns_are_the_quarters_between_the_old_ones():
    # Each of the columns 0, 4 and 8 becomes two, a quarter of a step to its left and right.
    layer = with_positions(make(), np.repeat([[0.0], [4], [8]] * 2, 8, axis=1))
    columns = array(layer.positions(2, 6))[:, 0].reshape(2, 6)
    np.testing.assert_allclose(columns, [[0, 1, 3, 5, 7, 8]] * 2, atol=1e-6)


def test_a_table_that_rises_from_left_to_right_goes_on_rising():
    layer = with_positions(make(image_size=(8, 8)), np.tile(np.arange(4.0), 4)[:, None] + [0.0] * 8)
    for columns in (3, 5, 9):
        steps = np.diff(array(layer.positions(2, columns))[:, 0].reshape(2, columns), axis=1)
        assert (steps > 0).all()


def test_another_size_leaves_the_class_token_and_the_patches_pixels_alone():
    layer, images = make(), normal(2, 8, 6, 1)
    vectors = array(layer(images))
    assert vectors.shape == (2, 13, 8)
    np.testing.assert_allclose(vectors[:, 0], array(layer(normal(2, 4, 6, 1)))[:, 0], atol=1e-6)
    kernel, bias = layer.projection.get_weights()
    patches = array(layer.flatten_patches(images)).reshape(2, 12, 4) @ kernel + bias
    expected = patches + array(layer.positions(4, 3))
    np.testing.assert_allclose(vectors[:, 1:], expected, atol=1e-5)


@pytest.mark.parametrize(("policy", "mode"), POLICIES_AND_MODES)
def test_compiled_and_half_precision_vectors_equal_the_eager_ones(policy, mode):
    layer, images = make(dtype=policy), normal(2, 8, 6, 1)
    reference = make()
    call = compiled(lambda inputs: layer(inputs), mode)
    np.testing.assert_allclose(
        array(call(ops.convert_to_tensor(images))),
        array(reference(images)),
        atol=4 * TOLERANCE[policy],  # The vectors are of the order of 4.
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_the_symbolic_output_has_the_shape_and_dtype_of_the_real_one(policy):
    layer = PatchEmbedding(8, 2, image_size=4, dtype=policy)
    outputs = layer(keras.Input((8, 4, 3)))
    assert outputs.shape == (None, 9, 8)
    assert outputs.dtype == layer.compute_dtype


def test_dropout_zeroes_features_in_training_only():
    layer, images = make(dropout=0.5), normal(2, 4, 6, 1)
    plain, dropped = array(layer(images)), array(layer(images, training=True))
    kept = dropped != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"d_model": 0}, "d_model=0"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"channels": 0}, "channels=0"),
        ({"image_size": (0, 4)}, "image_size=0"),
        ({"image_size": (4, 4, 3)}, r"image_size=\(4, 4"),
        ({"image_size": (4, 5)}, r"image_size=\(4, 5\), patch_size=2"),
        ({"dropout": 1.0}, r"\[0, 1\).* dropout=1.0"),
    ],
    ids=str,
)
def test_an_impossible_argument_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding(**{"d_model": 8, "patch_size": 2, "image_size": 4, **wrong})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 6, 1), r"patch_size.* images=\(5, 6\)"),
        ((4, 6, 3), r"\(2, 4, 6, 3\), channels=1"),
        ((4, 6), r"\(2, 4, 6\), channels=1"),
    ],
    ids=str,
)
def test_images_that_do_not_fit_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        make()(np.zeros((2, *shape), "float32"))


def test_images_of_unknown_size_are_refused():
    with pytest.raises(ValueError, match=r"\(None, None, None, 1\)"):
        make()(keras.Input((None, None, 1)))
