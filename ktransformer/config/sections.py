"""The configuration of a run, by section: what the commands and recipes can set."""

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

from ktransformer.config.checks import check
from ktransformer.config.data import DataConfig
from ktransformer.config.export import BatchingConfig as BatchingConfig  # As pickles name them.
from ktransformer.config.export import CompilationConfig as CompilationConfig
from ktransformer.config.model import ModelConfig
from ktransformer.config.search import DecodingConfig
from ktransformer.config.search import SearchConfig as SearchConfig
from ktransformer.config.training import TrainingConfig
from ktransformer.config.values import convert
from ktransformer.config.yaml_file import read_yaml
from ktransformer.errors import InputError, brief, did_you_mean


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that a training run can set, by section."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    decoding: DecodingConfig = dataclasses.field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        check(
            self.data.batch_tokens is None or self.data.batch_tokens >= self.model.max_length,
            "batch_tokens must be at least max_length, or the longest pair has no batch",
            batch_tokens=self.data.batch_tokens,
            max_length=self.model.max_length,
        )

    def replace(self, settings: dict[str, Any]) -> "Config":
        """Returns a copy with some fields changed.

        Args:
            settings: Field name to value; a name says its section by itself. A string is read
                as the field's type.

        Raises:
            InputError: A name is unknown (the message lists the known ones) or a value does not
                fit.
        """
        sections = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        owner = {
            field.name: name
            for name, section in sections.items()
            for field in dataclasses.fields(section)
        }
        changes: dict[str, dict[str, Any]] = {name: {} for name in sections}
        for key, value in settings.items():
            if key not in owner:
                close = did_you_mean(key, owner)
                known = f"; known are {', '.join(sorted(owner))}."
                raise InputError(f"Unknown setting {brief(key)}{f'.{close}' if close else known}")
            section = sections[owner[key]]
            changes[owner[key]][key] = convert(key, value, get_type_hints(type(section))[key])
        return dataclasses.replace(
            self,
            **{
                name: dataclasses.replace(section, **changes[name])
                for name, section in sections.items()
            },
        )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the configuration as nested dictionaries of plain values, as JSON has them."""
        return {
            section: {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in values.items()
            }
            for section, values in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, sections: dict[str, Any]) -> "Config":
        """Creates a configuration from what `to_dict` returned, or from a part of it."""
        return cls().replace(flatten(sections))


def flatten(sections: dict[str, Any]) -> dict[str, Any]:
    """Turns `{"model": {"d_model": 64}, "epochs": 5}` into `{"d_model": 64, "epochs": 5}`.

    Raises:
        InputError: A section is unknown or not a mapping.
    """
    names = [field.name for field in dataclasses.fields(Config)]
    settings: dict[str, Any] = {}
    for key, value in sections.items():
        if isinstance(value, dict):
            if key not in names:
                raise InputError(
                    f"Unknown section {brief(key)}; known are {', '.join(names)}."
                    + did_you_mean(key, names)
                )
            settings |= value
        elif key in names and value is not None:
            raise InputError(f"Section {brief(key)} must hold settings; got {brief(value)}.")
        elif key not in names:
            settings[key] = value
    return settings


def read_settings(path: str | Path) -> dict[str, Any]:
    """Reads settings from a YAML file, with or without sections.

    Raises:
        InputError: The file is missing, larger than 1 MiB or not a YAML mapping, or its aliases
            make more than 10,000 values of it.
    """
    content = read_yaml(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold settings (key: value); got {brief(content)}.")
    return flatten(content)
