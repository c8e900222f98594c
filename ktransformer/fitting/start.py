"""The starting point of a training: fresh weights, a run, or the state of one that was cut."""

import dataclasses
from typing import TYPE_CHECKING, Any

from ktransformer.config import Config, DataConfig, TrainingConfig
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import choose_tuning
from ktransformer.models import Transformer
from ktransformer.saving.run import Run, make_model
from ktransformer.saving.weights import digest_weights

if TYPE_CHECKING:
    from ktransformer.fitting.vocabulary import Tokenizers

# Settings of the model that do not change its weights or its outputs after training.
_TRAINING_ONLY = {"dropout", "attention_dropout", "hidden_dropout", "remat", "dtype"}
_SIZES = ("vocabulary_size", "source_vocabulary_size")
_OF_TOKENIZER = (
    *_SIZES,
    "shared_vocabulary",
    "split_digits",
    "character_coverage",
    "symbols",
    "tags",
)


@dataclasses.dataclass(frozen=True)
class Fresh:
    """Random weights, and tokenizers that are trained on the text."""

    tokenizers = None

    def configure(self, config: Config) -> Config:
        """Returns the settings as they are."""
        return config

    def make_model(self, config: Config, tokenizers: tuple[Any, Any]) -> Transformer:
        """Creates the model with random weights."""
        source, target = (each.vocabulary_size for each in tokenizers)
        own = None if config.data.shared_vocabulary else source
        return make_model(config, target, source_vocabulary_size=own)

    def describe(self) -> str:
        """Returns the start in words, for a model card."""
        return "random weights"

    def fingerprint(self) -> str | None:
        """Returns None: the seed is among the settings."""
        return None


FRESH = Fresh()


@dataclasses.dataclass(frozen=True)
class FromRun:
    """The weights and the tokenizers of a run; the optimizer and the schedule begin anew.

    The settings of the model and of the tokenizer are the run's; dropout, `remat`, `dtype` and all
    settings of the training may differ: `FromRun(run).default_config().replace({"epochs": 3})`.

    Args:
        run: A run; it is not changed.
    """

    run: Run

    @property
    def tokenizers(self) -> "Tokenizers":
        """The run's tokenizers, of the source and of the target."""
        return self.run.tokenizer, self.run.target_tokenizer or self.run.tokenizer

    def default_config(self) -> Config:
        """Returns the defaults of a training that starts from the run.

        The settings of model, tokenizer and decoding are the run's; those of the batches and of the
        training are the defaults, so that `configure` chooses what is null. A run with a rule
        against loops gets one for the new text.
        """
        data = {name: getattr(self.run.config.data, name) for name in _OF_TOKENIZER}
        repeats = None if self.run.config.decoding.max_repeats else 0
        return dataclasses.replace(
            self.run.config.replace({"max_repeats": repeats}),
            data=DataConfig(**data),
            training=TrainingConfig(),
        )

    def configure(self, config: Config) -> Config:
        """Returns the settings with null sizes of vocabularies set to the run's.

        What is null of the training is chosen as `fitting.defaults.choose_tuning` says.

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
        config = config.replace({name: theirs["data"][name] for name in _SIZES})
        d_model = self.run.model.d_model
        return dataclasses.replace(config, training=choose_tuning(config.training, d_model))

    def make_model(self, config: Config, tokenizers: tuple[Any, Any]) -> Transformer:
        """Creates a copy of the run's model with the training's dropout, `remat` and `dtype`."""
        settings, options = self.run.model.get_config(), dataclasses.asdict(config.model)
        changes = {name: options[name] for name in _TRAINING_ONLY & settings.keys()}
        model = type(self.run.model).from_config({**settings, **changes})
        model.build()
        model.set_weights(self.run.model.get_weights())
        return model

    def describe(self) -> str:
        """Returns the start in words, for a model card."""
        return f"a trained run, whose weights have the SHA-256 `{self.fingerprint()}`"

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the weights, in hexadecimal."""
        return digest_weights(self.run.model)


@dataclasses.dataclass(frozen=True)
class Resume:
    """The state in the training's folder: the training ends as if it had not been cut.

    Args:
        beginning: The start of the training that was cut; where the folder holds no state, the
            training begins there.
    """

    beginning: Fresh | FromRun = FRESH


Start = Fresh | FromRun | Resume
