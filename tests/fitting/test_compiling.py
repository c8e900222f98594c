import keras
import numpy as np
import pytest

from ktransformer.config import TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting import compile_model
from tests.fitting.small_transformer import make_batch, make_model


def compiled(steps_per_epoch=None, **settings):
    model = make_model()
    compile_model(model, TrainingConfig(**settings), steps_per_epoch=steps_per_epoch)
    model.run_eagerly = True  # Sooner than to trace for an update or two.
    return model


def rates(model, batches):
    """The learning rates that the optimizer has after so many batches."""
    found = []
    for count in batches:
        model.optimizer._iterations.assign(count)
        found.append(float(model.optimizer.learning_rate))
    return np.array(found)


def test_cosine_falls_from_the_peak_to_zero_at_the_end_of_the_last_epoch():
    model = compiled(
        10, schedule="cosine", epochs=12, learning_rate=0.5, warmup_steps=20, accumulate_batches=2
    )
    found = rates(model, [0, 20, 40, 80, 120])  # Twelve epochs of five updates of two batches.
    np.testing.assert_allclose(found, [0.0, 0.25, 0.5, 0.25, 0.0], atol=1e-6)


def test_the_warm_up_counts_updates_however_many_batches_make_one():
    model = compiled(learning_rate=0.5, warmup_steps=20, accumulate_batches=3)
    np.testing.assert_allclose(rates(model, [29, 59, 239]), [0.25, 0.5, 0.25], rtol=1e-6)


def test_a_training_shorter_than_its_warm_up_has_a_cosine_schedule():
    model = compiled(1, schedule="cosine", epochs=2, learning_rate=0.5, warmup_steps=20)
    np.testing.assert_allclose(rates(model, [0, 2]), [0.0, 0.05], atol=1e-6)


def test_a_schedule_with_an_end_needs_to_know_it():
    with pytest.raises(ValueError, match=r"schedule='cosine'.*steps_per_epoch.*None"):
        compiled(schedule="cosine")


def test_to_accumulate_more_batches_than_there_are_is_refused():
    with pytest.raises(InputError, match=r"accumulate_batches.*20.*21"):
        compiled(10, epochs=2, accumulate_batches=21)


def test_without_the_length_of_an_epoch_nothing_is_chosen_that_needs_it():
    model = compiled()
    np.testing.assert_allclose(rates(model, [499, 999, 3999]), [1e-3, 2e-3, 1e-3], rtol=1e-6)


def test_muon_moves_matrices_by_orthogonal_updates_and_all_else_by_adam():
    model = compiled(optimizer="muon", learning_rate=0.1, warmup_steps=1)
    before = [np.array(weight) for weight in model.trainable_variables]
    inputs, labels = make_batch()
    model.train_on_batch(inputs, labels)
    for weight, old in zip(model.trainable_variables, before, strict=True):
        update = np.array(weight) - old
        if weight.path.endswith("kernel"):
            values = np.linalg.svd(update, compute_uv=False)
            assert values.max() < 3 * np.median(values), weight.path
        else:  # Adam's first update has the size of the learning rate wherever there is a gradient.
            assert np.abs(update).max() == pytest.approx(0.1, rel=1e-2), weight.path


def test_muon_leaves_an_output_projection_of_its_own_to_adam():
    model = make_model(tie_embeddings=False)
    compile_model(model, TrainingConfig(optimizer="muon"))
    assert model.output_embedding.kernel.path.endswith("output/kernel")
    assert model.optimizer._should_use_adamw(model.output_embedding.kernel)
    assert not model.optimizer._should_use_adamw(
        model.decoder.blocks[0].self_attention.output_projection.kernel
    )


@pytest.mark.long
def test_muon_learns_a_batch():
    model = compiled(optimizer="muon", learning_rate=0.01, warmup_steps=2)
    model.run_eagerly = False  # For twenty, the graph is sooner.
    losses = model.fit(*make_batch(), epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_weight_decay_shrinks_matrices_alone(optimizer):
    decayed, plain = (
        compiled(optimizer=optimizer, learning_rate=0.1, warmup_steps=1, weight_decay=decay)
        for decay in (0.5, 0.0)
    )
    before = [np.array(weight) for weight in plain.trainable_variables]
    for model in (decayed, plain):
        keras.utils.set_random_seed(1)
        model.train_on_batch(*make_batch())
    for weight, other, old in zip(
        decayed.trainable_variables, plain.trainable_variables, before, strict=True
    ):
        shrunk = 0.1 * 0.5 * old if len(weight.shape) == 2 else 0.0 * old
        np.testing.assert_allclose(
            np.array(other) - np.array(weight), shrunk, atol=1e-6, err_msg=weight.path
        )
