"""The starting point of a training: fresh weights, a run, or the state of one that was cut."""

import dataclasses
import hashlib

import keras

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.models import Transformer
from ktransformer.saving.run import Run, make_model
from ktransformer.text import Tokenizer

# Settings of the model that do not change its weights or its outputs after training.
_TRAINING_ONLY = {"dropout", "attention_dropout", "hidden_dropout", "remat", "dtype"}
_OF_TOKENIZER = ("vocabulary_size", "split_digits", "character_coverage")


@dataclasses.dataclass(frozen=True)
class Fresh:
    """Random weights, and a tokenizer that is trained on the text."""

    tokenizer = None

    def configure(self, config: Config) -> Config:
        """Returns the settings as they are."""
        return config

    def make_model(self, config: Config, vocabulary_size: int) -> Transformer:
        """Creates the model with random weights."""
        return make_model(config, vocabulary_size)

    def fingerprint(self) -> str | None:
        """Returns None: the seed is among the settings."""
        return None


FRESH = Fresh()


@dataclasses.dataclass(frozen=True)
class FromRun:
    """The weights and the tokenizer of a run; the optimizer and the schedule begin anew.

    The settings of the model and of the tokenizer are the run's; dropout, `remat`, `dtype` and all
    settings of the training may differ: `run.config.replace({"learning_rate": 1e-4})`.

    Args:
        run: A run; it is not changed.
    """

    run: Run

    @property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer."""
        return self.run.tokenizer

    def configure(self, config: Config) -> Config:
        """Returns the settings with a null `vocabulary_size` set to the run's.

        Raises:
            InputError: A setting of the model or of the tokenizer is not the run's.
        """
        ours, theirs = config.to_dict(), self.run.config.to_dict()
        names = [("model", name) for name in ours["model"] if name not in _TRAINING_ONLY]
        names += [("data", name) for name in _OF_TOKENIZER if ours["data"][name] is not None]
        for section, name in names:
            if ours[section][name] != theirs[section][name]:
                raise InputError(
                    f"{name} must be {theirs[section][name]!r}, as in the run that the training "
                    f"starts from; got {name}={ours[section][name]!r}."
                )
        return config.replace({"vocabulary_size": theirs["data"]["vocabulary_size"]})

    def make_model(self, config: Config, vocabulary_size: int) -> Transformer:
        """Creates a copy of the run's model with the training's dropout, `remat` and `dtype`."""
        settings, options = self.run.model.get_config(), dataclasses.asdict(config.model)
        changes = {name: options[name] for name in _TRAINING_ONLY & settings.keys()}
        model = type(self.run.model).from_config({**settings, **changes})
        model.build()
        model.set_weights(self.run.model.get_weights())
        return model

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the weights, in hexadecimal."""
        digest = hashlib.sha256()
        for weight in self.run.model.weights:
            digest.update(keras.ops.convert_to_numpy(weight).tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Resume:
    """The state in the training's folder: the training ends as if it had not been cut.

    Args:
        beginning: The start of the training that was cut; where the folder holds no state, the
            training begins there.
    """

    beginning: Fresh | FromRun = FRESH


Start = Fresh | FromRun | Resume
