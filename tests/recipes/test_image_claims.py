"""The claims about images: their data, their models, and their rules on made-up measurements."""

import dataclasses

import keras
import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("babel")
pytest.importorskip("matplotlib")

from ktransformer.models import VisionTransformer
from training.claims import (
    attention_distance,
    class_token,
    image_tasks,
    inductive_bias,
    patch_size,
    position_embeddings,
    vision,
)

PIXELS = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)


def test_patches_are_put_in_another_order_whole():
    shuffled = image_tasks.shuffled_patches(PIXELS, 2, np.array([3, 0, 1, 2]))
    expected = [[10, 11, 0, 1], [14, 15, 4, 5], [2, 3, 8, 9], [6, 7, 12, 13]]
    np.testing.assert_array_equal(shuffled[0, ..., 0], expected)


@pytest.mark.parametrize("name", ["digits", "shapes", "textures"])
def test_images_have_one_scale_and_every_class_in_both_parts(name):
    task = getattr(image_tasks, name)(12)
    for part in (task.train, task.test):
        assert part.inputs.shape[1:] == (12, 12, 1)
        assert part.inputs.min() >= -1
        assert part.inputs.max() <= 1
        assert set(part.labels) == set(range(task.num_classes))


@pytest.mark.parametrize(
    ("kind", "sees_order"),
    [(VisionTransformer, True), (vision.UnplacedVisionTransformer, False)],
)
def test_only_positions_tell_the_order_of_the_patches(kind, sees_order):
    task = image_tasks.textures(8, 10, 10)
    keras.utils.set_random_seed(1)
    model = vision.make_model(task, patch_size=2, num_layers=1, d_model=8, kind=kind)
    images = task.test.inputs
    shuffled = image_tasks.shuffled_patches(images, 2, np.arange(16)[::-1])
    # The head starts at 0: the features are compared.
    one, other = np.asarray(model.features(images)), np.asarray(model.features(shuffled))
    assert (not np.allclose(one, other, atol=1e-5)) == sees_order


def test_equal_weights_have_the_mean_distance_of_the_patches():
    class Equal:
        patch_size = 2

        def attention_weights(self, images):
            return [np.full((len(images), 2, 5, 5), 1 / 5)]

    # Of four patches of two pixels: 0, 2, 2 and the diagonal.
    expected = (0 + 2 + 2 + 8**0.5) / 4
    found = attention_distance.attention_distances(Equal(), PIXELS)
    np.testing.assert_allclose(found, [[expected, expected]], atol=1e-4)


def test_similarity_is_compared_with_the_distance_on_the_grid():
    distances = vision.grid_distances(3)
    found = position_embeddings.by_distance(1 - distances / 4)
    assert found["correlation"] == pytest.approx(-1)
    assert found["distance"] == [1, 2, 3]
    assert found["cosine"][0] == pytest.approx(1 - (12 + 8 * 2**0.5) / 20 / 4, abs=1e-4)


def position_measurements(digits, textures, correlation):
    """Two seeds; the accuracies are those with and without positions."""
    curve = {"distance": [1], "cosine": [0.0]}
    grid = {"before": {"correlation": 0.0, **curve}, "after": {"correlation": correlation, **curve}}
    accuracy = {
        f"{task}, {kind}": [
            {"accuracy": share + noise, "mixed": share, **grid} for noise in (0, 0.01)
        ]
        for task, shares in (("digits", digits), ("textures", textures))
        for kind, share in zip(position_embeddings.KINDS, shares, strict=True)
    }
    shuffled = [{"accuracy": 0.9, "by_place": grid["before"], **grid}]
    settings = dataclasses.asdict(position_embeddings.Settings())
    return {"settings": settings, "accuracy": accuracy, "shuffled": shuffled}


@pytest.mark.parametrize(
    ("digits", "textures", "correlation", "verdict", "condition"),
    [
        ((0.9, 0.4), (0.9, 0.5), -0.6, "holds", ""),
        ((0.9, 0.4), (0.9, 0.9), -0.6, "holds only when", "depends on where"),
        ((0.9, 0.4), (0.9, 0.5), -0.1, "holds only when", "limited to the accuracy"),
        ((0.9, 0.88), (0.9, 0.5), -0.6, "does not hold", ""),
    ],
)
def test_positions_are_needed_if_they_raise_the_accuracy_and_learn_the_grid(
    digits, textures, correlation, verdict, condition
):
    found = position_embeddings.conclude(position_measurements(digits, textures, correlation))
    assert found.verdict == verdict
    assert condition in found.condition


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ({"digits": 0.05, "shapes": 0.05}, "holds"),
        ({"digits": 0.0, "shapes": 0.05}, "holds only when"),
        ({"digits": 0.0, "shapes": -0.05}, "does not hold"),
    ],
)
def test_the_class_token_is_better_if_it_gains_at_its_best_rate(gains, verdict):
    # The mean's best rate is the second one, the token's the first.
    runs = {}
    for task, gain in gains.items():
        best = [0.8, 0.81, 0.82]
        runs[f"{task}, mean"] = [[0.3] * 3, best]
        runs[f"{task}, class_token"] = [[0.79 + gain, 0.82 + gain, 0.82 + gain], [0.2] * 3]
    found = class_token.conclude(
        {"settings": dataclasses.asdict(class_token.Settings()), "runs": runs}
    )
    assert found.verdict == verdict
    assert ("The mean is better on shapes" in found.outcome) == (gains["shapes"] < 0)


def patch_measurements(digits, shapes, wrong=0):
    settings = dataclasses.asdict(patch_size.Settings())
    counted = [patch_size.formula(settings, size) + wrong for size in settings["patch_sizes"]]
    runs = {
        task: [
            [{"accuracy": [share + noise], "seconds": 0.01} for noise in (0, 0.01, 0.02)]
            for share in shares
        ]
        for task, shares in (("digits", digits), ("shapes", shapes))
    }
    return {"settings": settings, "counted": counted, "runs": runs}


@pytest.mark.parametrize(
    ("digits", "shapes", "wrong", "verdict", "condition"),
    [
        ((0.5, 0.6, 0.7, 0.8), (0.5, 0.6, 0.7, 0.8), 0, "holds", ""),
        ((0.5, 0.6, 0.7, 0.8), (0.5, 0.6, 0.7, 0.8), 1, "does not hold", ""),
        ((0.5, 0.6, 0.7, 0.6), (0.5, 0.6, 0.7, 0.8), 0, "holds only when", "4 pixels with digits"),
        (
            (0.5, 0.4, 0.7, 0.6),
            (0.5, 0.6, 0.7, 0.8),
            0,
            "holds only when",
            "not at all with digits",
        ),
        ((0.5, 0.4, 0.7, 0.6), (0.5, 0.5, 0.7, 0.8), 0, "does not hold", ""),
    ],
)
def test_smaller_patches_are_better_down_to_where_halving_helps(
    digits, shapes, wrong, verdict, condition
):
    found = patch_size.conclude(patch_measurements(digits, shapes, wrong))
    assert found.verdict == verdict
    assert condition in found.condition


@pytest.mark.parametrize(
    ("few", "many", "moved", "verdict", "condition"),
    [
        (0.2, 0.05, 0.3, "holds", ""),
        (0.2, 0.15, 0.3, "holds only when", "limited to translation"),
        (0.2, 0.05, 0.0, "holds only when", "limited to data"),
        (0.0, 0.0, 0.0, "does not hold", ""),
    ],
)
def test_a_cnn_has_more_bias_if_it_needs_less_and_bears_shifts(
    few, many, moved, verdict, condition
):
    settings = inductive_bias.Settings(counts=(50, 1400), shifts=(0, 4))
    noise = (-0.01, 0.0, 0.01)
    found = inductive_bias.conclude(
        {
            "settings": dataclasses.asdict(settings),
            "parameters": {inductive_bias.VIT: 1000, inductive_bias.CNN: 1000},
            "counts": {
                inductive_bias.VIT: [[0.7 - few + one, 0.95 - many] for one in noise],
                inductive_bias.CNN: [[0.7, 0.95]] * 3,
            },
            "moved": {
                inductive_bias.VIT: [[0.9, 0.8 - moved + one] for one in noise],
                inductive_bias.CNN: [[0.9, 0.8]] * 3,
                inductive_bias.MOVED: [[0.9, 0.85]] * 3,
            },
        }
    )
    assert found.verdict == verdict
    assert condition in found.condition


@pytest.mark.parametrize(
    ("growth", "verdict"),
    [
        ({"digits": 0.6, "shapes": 0.6}, "holds"),
        ({"digits": 0.6, "shapes": -0.6}, "holds only when"),
        ({"digits": 0.3, "shapes": -0.6}, "does not hold"),  # Less than a tenth of 5 pixels.
    ],
)
def test_attention_distance_grows_if_the_mean_of_the_heads_does(growth, verdict):
    settings = attention_distance.Settings(num_layers=3)
    runs = {
        task: [
            {
                "before": [[4.0, 4.0]] * 3,
                "after": [[3 + (rate + noise) * layer, 5.0] for layer in range(3)],
                "accuracy": 0.9,
            }
            for noise in (-0.01, 0.0, 0.01)
        ]
        for task, rate in growth.items()
    }
    measurements = {"settings": dataclasses.asdict(settings), "runs": runs, "uniform": 5.0}
    assert attention_distance.conclude(measurements).verdict == verdict
