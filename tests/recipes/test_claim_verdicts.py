"""The rules of claims 1, 2, 3, 6 and 7, on measurements that are made up here."""

import dataclasses

import pytest

pytest.importorskip("babel")
pytest.importorskip("matplotlib")

from training.claims import (
    embedding_scaling,
    learning_rates,
    normalization,
    overfitting,
    residuals,
    score_scaling,
)


def residual_measurements(first_gradients, losses):
    """Two seeds of one depth; the last layer's gradient is 1, token frequencies give 5."""
    settings = residuals.Settings(seeds=(1, 2), depths=(24,), trained_depths=(24,))
    starts = [{"gradients": [g, 1.0], "cosine": 0.5} for g in first_gradients]
    return {
        "settings": dataclasses.asdict(settings),
        "start": {n: [[s]] * 2 for n, s in zip(residuals.BLOCKS, starts, strict=True)},
        "trained": {n: [[v, v]] for n, v in zip(residuals.BLOCKS, losses, strict=True)},
        "frequencies": 5.0,
    }


@pytest.mark.parametrize(
    ("first_gradients", "losses", "verdict"),
    [
        ((1, 1, 1, 1e-5, 1e-5), (4, 4, 4, 5, 5), "holds"),
        ((1, 1, 100, 1, 1e-5), (4, 5, 6, 5, 5), "holds only when"),
        ((1, 1, 1, 1, 1e-5), (4, 4, 4, 4, 5), "does not hold"),
        ((1, 1, 1, 1, 0.5), (4, 4, 4, 5, 5), "does not hold"),
        ((1, 1, 1, 1, 1e-5), (5, 5, 5, 5, 5), "does not hold"),
        ((1, 1e-5, 1, 1, 1e-5), (4, 4, 4, 5, 5), "does not hold"),
    ],
)
def test_residuals_hold_where_gradients_die_without_and_only_models_with_learn(
    first_gradients, losses, verdict
):
    found = residuals.conclude(residual_measurements(first_gradients, losses))
    assert found.verdict == verdict


def test_the_condition_of_residuals_names_the_blocks_that_learned():
    measurements = residual_measurements((1, 1, 1, 1, 1e-5), (4, 5, 4, 5, 5))
    condition = residuals.conclude(measurements).condition
    assert residuals.PRE in condition
    assert residuals.BARE in condition
    assert residuals.POST not in condition


def normalization_measurements(layer, batch, companions):
    """Two seeds; losses at one batch size and one length."""
    settings = normalization.Settings(seeds=(1, 2), batch_sizes=(2,), lengths=(16,))
    losses = {normalization.LAYER: layer, normalization.BATCH: batch, normalization.BLIND: batch}
    same = {"companions": 0.0, "padding": 0.0, "inference": 0.0}
    changes = {name: [{**same, "companions": companions}] * 2 for name in losses}
    return {
        "settings": dataclasses.asdict(settings),
        "by_batch_size": {name: [[values[0]] * 2] for name, values in losses.items()},
        "by_length": {name: [[values[1]] * 2] for name, values in losses.items()},
        "padding": [0.1],
        "dependence": {**changes, normalization.LAYER: [same] * 2},
    }


@pytest.mark.parametrize(
    ("layer", "batch", "companions", "verdict"),
    [
        ((4, 4), (5, 5), 0.2, "holds"),
        ((4, 5), (5, 4), 0.2, "holds only when"),
        ((5, 5), (4, 4), 0.2, "does not hold"),
        ((4, 4), (5, 5), 0.0, "does not hold"),
    ],
)
def test_layer_norm_wins_by_independence_and_lower_losses(layer, batch, companions, verdict):
    found = normalization.conclude(normalization_measurements(layer, batch, companions))
    assert found.verdict == verdict
    assert (found.condition == "a batch has 2 texts") == (verdict == "holds only when")


def rate_measurements(with_norm, without, jumps, validation, shallow=(4, 6)):
    """One seed, rates 0.001 and 0.01; token frequencies give 5. `shallow` is without a norm."""
    settings = learning_rates.Settings(seeds=(1,), learning_rates=(1e-3, 1e-2))

    def run(losses, jump):
        return [[{"validation": v, "rise": jump} for v in losses]]

    normed = run(with_norm, jumps[0])
    names = (learning_rates.PRE, learning_rates.POST, *learning_rates.WARM.values())
    curves = {
        name: [{"training": [4.0, 2.0], "validation": [5.0, value]}]
        for name, value in zip((learning_rates.PRE, learning_rates.NONE), validation, strict=True)
    }
    return {
        "settings": dataclasses.asdict(settings),
        "runs": {**dict.fromkeys(names, normed), learning_rates.NONE: run(without, jumps[1])},
        "shallow": {learning_rates.PRE: run((4, 4), 0), learning_rates.NONE: run(shallow, 0)},
        "few": curves,
        "frequencies": 5.0,
    }


@pytest.mark.parametrize(
    ("measurements", "verdict", "part"),
    [
        (rate_measurements((4, 4), (4, 6), (0.1, 0.2), (3.0, 4.0)), "holds", ""),
        (
            rate_measurements((4, 4), (4, 6), (0.1, 0.2), (4.0, 3.0)),
            "holds only when",
            "not of regularisation",
        ),
        (
            rate_measurements((4, 4), (4, 6), (0.2, 0.1), (3.0, 4.0)),
            "holds only when",
            "not of steadier training",
        ),
        (
            rate_measurements((4, 4), (4, 6), (0.1, 0.2), (3.0, 4.0), shallow=(4, 4)),
            "holds only when",
            "the model is deep (6 layers here)",
        ),
        (rate_measurements((4, 6), (4, 6), (0.1, 0.2), (3.0, 4.0)), "does not hold", ""),
        (rate_measurements((6, 6), (6, 6), (0.1, 0.2), (3.0, 4.0)), "does not hold", ""),
    ],
)
def test_layer_norm_is_judged_by_rate_steadiness_and_regularisation(measurements, verdict, part):
    found = learning_rates.conclude(measurements)
    assert found.verdict == verdict
    assert part in found.condition


def test_validation_losses_are_compared_at_the_same_training_loss():
    curves = {
        "fast": [{"training": [4.0, 2.0], "validation": [5.0, 3.0]}],
        "slow": [{"training": [4.0, 3.0], "validation": [5.0, 4.5]}],
    }
    found = overfitting.at_equal_training(curves)
    assert found["fast"] == pytest.approx([4.0])  # Half way from 5 to 3.
    assert found["slow"] == pytest.approx([4.5])


def score_measurements(growth, entropies, losses):
    """Two seeds; undivided variance grows by `growth` from d_k 4 to d_k 64."""
    settings = score_scaling.Settings(seeds=(1, 2), widths=(4, 64), d_model=64, heads=(8, 1))

    def points(variances, entropy):
        return [
            {"variance": v, "entropy": e, "jacobian_mean": e, "jacobian_median": e}
            for v, e in zip(variances, (0.9, entropy), strict=True)
        ]

    drawn = {"with": points((1, 1), entropies[0]), "without": points((4, 4 * growth), entropies[1])}
    trained = {"with": (4.0, 4.0), "without": losses}
    return {
        "settings": dataclasses.asdict(settings),
        "drawn": {name: [run] * 2 for name, run in drawn.items()},
        "trained": {name: [[v, v] for v in values] for name, values in trained.items()},
    }


@pytest.mark.parametrize(
    ("growth", "entropies", "losses", "verdict"),
    [
        (16, (0.9, 0.1), (5.0, 5.0), "holds"),
        (16, (0.9, 0.1), (3.0, 5.0), "holds only when"),
        (16, (0.9, 0.1), (3.0, 3.0), "does not hold"),
        (16, (0.9, 0.8), (5.0, 5.0), "does not hold"),
        (2, (0.9, 0.1), (5.0, 5.0), "does not hold"),
    ],
)
def test_scaled_scores_are_judged_by_growth_saturation_and_loss(growth, entropies, losses, verdict):
    found = score_scaling.conclude(score_measurements(growth, entropies, losses))
    assert found.verdict == verdict
    assert ("from 64" in found.condition) == (verdict == "holds only when")


def embedding_measurements(sizes, losses):
    """Two seeds of one width, by the order of `EMBEDDINGS`."""
    settings = embedding_scaling.Settings(seeds=(1, 2), widths=(64,))
    runs = {
        name: [[{"start": size, "end": size, "first_loss": 6.0, "validation": loss}] * 2]
        for name, size, loss in zip(embedding_scaling.EMBEDDINGS, sizes, losses, strict=True)
    }
    return {"settings": dataclasses.asdict(settings), "runs": runs, "frequencies": 5.0}


@pytest.mark.parametrize(
    ("sizes", "losses", "verdict"),
    [
        ((1.4, 0.2, 0.4), (4.0, 5.0, 5.0), "holds"),
        ((1.4, 0.2, 1.4), (4.0, 5.0, 5.0), "holds only when"),
        ((1.4, 0.2, 1.4), (5.0, 4.0, 5.0), "does not hold"),
        ((1.4, 0.8, 1.4), (4.0, 5.0, 5.0), "does not hold"),
    ],
)
def test_scaled_embeddings_are_judged_by_size_and_loss(sizes, losses, verdict):
    found = embedding_scaling.conclude(embedding_measurements(sizes, losses))
    assert found.verdict == verdict
