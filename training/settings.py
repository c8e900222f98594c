"""Settings of a recipe: a frozen dataclass, changed by a YAML file and by the command line."""

import argparse
import dataclasses
from typing import Any, Self, get_type_hints

from ktransformer.config import convert, read_settings, split_settings
from ktransformer.errors import InputError


@dataclasses.dataclass(frozen=True)
class RecipeSettings:
    """Base of a recipe's settings.

    A subclass has a default and a docstring for each field, and checks the values in
    `__post_init__`, which raises an `InputError`.
    """

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Adds `--config` and `--set` to a command line and lists the settings in its help."""
        fields = dataclasses.fields(cls)
        listed = ", ".join(f"{field.name}={field.default}" for field in fields)
        parser.epilog = f"settings and their defaults: {listed}"
        parser.add_argument("--config", metavar="FILE", help="settings in YAML")
        parser.add_argument(
            "--set",
            nargs="+",
            action="extend",
            default=[],
            metavar="KEY=VALUE",
            help="single settings, over the file's",
        )

    @classmethod
    def from_arguments(cls, options: argparse.Namespace, **changes: Any) -> Self:
        """Returns the defaults, changed by `changes`, `--config` and `--set`, in this order.

        Raises:
            InputError: The file or a setting does not fit.
        """
        file = read_settings(options.config) if options.config else {}
        return cls().replace({**changes, **file, **split_settings(options.set)})

    def replace(self, changes: dict[str, Any]) -> Self:
        """Returns a copy with some fields changed; a string is read as the field's type.

        Raises:
            InputError: A name is unknown (the message lists the known ones) or a value does not
                fit.
        """
        types = get_type_hints(type(self))
        for name in changes:
            if name not in types:
                raise InputError(f"Unknown setting {name!r}; known are {', '.join(sorted(types))}.")
        values = {name: convert(name, value, types[name]) for name, value in changes.items()}
        return dataclasses.replace(self, **values)
