"""`fit_model` fits any model of tokens; here one of a decoder's inputs on batches of its own."""

import keras
import numpy as np
import pytest

from ktransformer.config import Config
from ktransformer.fitting import TrainingModel, compile_training_model, fit_model, open_state
from ktransformer.text.batches import EpochBatches
from tests.fitting.small_training import CutAfter, CutError, assert_same, state_of

PERIOD = 5  # Token t is followed by t + 1, the last one by the first.
STEPS = 3
CONFIG = Config().replace(
    {"epochs": 4, "learning_rate": 0.1, "warmup_steps": 1, "checkpoint_minutes": 0}
)


class NextToken(keras.Model):
    """Predicts a token from the one before, of one input."""

    vocabulary_size, d_model, pad_id = PERIOD + 1, 8, 0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(self.vocabulary_size, self.d_model)
        self.dropout = keras.layers.Dropout(0.2)
        self.output_layer = keras.layers.Dense(self.vocabulary_size, use_bias=False)

    def build(self, input_shape=None):
        self.embedding.build((None, None))
        self.output_layer.build((None, None, self.d_model))
        self.built = True

    def hidden_states(self, inputs, training=None):
        return self.dropout(self.embedding(inputs["ids"]), training=training)

    def output_table(self):
        return keras.ops.transpose(self.output_layer.kernel)

    def has_plain_logits(self):
        return True

    def call(self, inputs, training=None):
        return self.output_layer(self.hidden_states(inputs, training=training))


class PackedBatches(EpochBatches):
    """Rows that are filled with tokens, of which no two batches have the same."""

    inputs = ("ids",)
    steps_per_epoch = STEPS

    def epoch(self, epoch, first_step=0):
        for step in range(first_step, STEPS):
            ids = (np.arange(36).reshape(4, 9) + epoch * STEPS + step) % PERIOD + 1
            yield {"ids": ids[:, :-1].astype("int32")}, ids[:, 1:].astype("int32")


def fitted(folder, callbacks=(), validation=None):
    keras.utils.set_random_seed(1)
    model = NextToken()
    model.build()
    return fit_model(
        model,
        CONFIG.training,
        PackedBatches(),
        validation,
        state=open_state(folder, CONFIG, {"text": "period"}, resume=True),
        callbacks=callbacks,
    )


def test_a_model_of_one_input_is_fitted_without_its_logits():
    model = NextToken()
    assert isinstance(compile_training_model(model, CONFIG.training), TrainingModel)


def test_a_model_of_one_input_learns(tmp_path):
    result = fitted(tmp_path, validation=PackedBatches())
    assert type(result.model) is NextToken
    assert result.history["val_perplexity"][-1] < 2 < result.history["perplexity"][0]
    assert (result.training.optimizer, result.training.schedule) == ("adam", "inverse_square_root")
    ids = np.array([[1, 2, 5]])
    assert result.model({"ids": ids}).numpy().argmax(-1).tolist() == [[2, 3, 1]]


@pytest.mark.long
def test_a_training_of_a_model_of_one_input_that_was_cut_ends_as_if_it_had_not_been(tmp_path):
    whole = fitted(tmp_path / "whole")
    with pytest.raises(CutError):
        fitted(tmp_path / "cut", [CutAfter(STEPS + 2)])
    rest = fitted(tmp_path / "cut")
    assert_same(rest.model.get_weights(), whole.model.get_weights())
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
