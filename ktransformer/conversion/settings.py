"""Reads a published configuration so that no value is ignored in silence."""

from collections.abc import Mapping
from typing import Any, TypeVar

from ktransformer.conversion.problems import Problems
from ktransformer.errors import brief, did_you_mean

T = TypeVar("T")

_MOST = 2**31 - 1
# What Hugging Face writes into every config.json without a meaning for the model's outputs.
_WITHOUT_EFFECT = (
    "_name_or_path",
    "_num_labels",
    "architectures",
    "dtype",
    "finetuning_task",
    "gradient_checkpointing",
    "init_std",
    "initializer_factor",
    "initializer_range",
    "label2id",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_cache",
)


class Settings:
    """The values of a JSON object, each of which must be read, required or ignored by name.

    A wrong value becomes a problem, and a valid one takes its place, so that the reading goes on
    and finds the others; call `problems.raise_if_any` before the values are used.

    Args:
        values: The JSON object.
        problems: Collects what is wrong.
        origin: The name of the file, for the sentences.
    """

    def __init__(
        self, values: Mapping[str, Any], problems: Problems, origin: str = "config.json"
    ) -> None:
        self._values = dict(values)
        self._problems = problems
        self._origin = origin
        self._read: set[str] = set(_WITHOUT_EFFECT)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def take_int(
        self, name: str, *, least: int = 1, most: int = _MOST, default: int | None = None
    ) -> int:
        """Returns an integer in `[least, most]`; `default` where it is absent, if there is one."""
        rule = f"an integer from {least} to {most}"
        fallback = least if default is None else default
        return self._take(
            name, fallback, default, lambda x: type(x) is int and least <= x <= most, rule
        )

    def take_float(
        self, name: str, *, least: float = 0.0, most: float = 1e9, default: float | None = None
    ) -> float:
        """Returns a number in `[least, most]`; `default` where it is absent, if there is one."""
        value = self._take(
            name,
            least if default is None else default,
            default,
            lambda x: type(x) in (int, float) and least <= x <= most,
            f"a number from {least:g} to {most:g}",
        )
        return float(value)

    def take_bool(self, name: str, *, default: bool | None = None) -> bool:
        """Returns true or false; `default` where it is absent, if there is one."""
        return self._take(name, bool(default), default, lambda x: type(x) is bool, "true or false")

    def take_text(self, name: str, *, default: str | None = None) -> str:
        """Returns a string; `default` where it is absent, if there is one."""
        return self._take(name, default or "", default, lambda x: type(x) is str, "a string")

    def take_list(self, name: str, *, default: list[Any] | None = None) -> list[Any]:
        """Returns a list; `default` where it is absent, if there is one."""
        return self._take(name, default or [], default, lambda x: type(x) is list, "a list")

    def take_choice(self, name: str, choices: Mapping[str, T], *, default: str | None = None) -> T:
        """Returns our value for one of their words.

        Args:
            name: The setting.
            choices: Ours, by theirs.
            default: Their word where the setting is absent; None if it must be there.
        """
        first = next(iter(choices))
        word = self._take(
            name,
            first if default is None else default,
            default,
            lambda x: type(x) is str and x in choices,
            f"one of {', '.join(choices)}",
        )
        return choices[word]

    def require(self, name: str, *values: Any, why: str) -> None:
        """Demands that a setting, where it is there, has one of some values.

        Args:
            name: The setting.
            *values: What it may be; None for null.
            why: What would be wrong otherwise.
        """
        self._read.add(name)
        value = self._values.get(name, values[0])
        if not any(value == each and type(value) is type(each) for each in values):
            self._problems.add(f"{self._origin} has {name}={brief(value)}: {why}")

    def ignore(self, *names: str) -> None:
        """Marks settings that change nothing in what the model computes."""
        self._read.update(names)

    def finish(self) -> None:
        """Records a problem for each setting that was neither read nor required nor ignored."""
        for name in sorted(self._values.keys() - self._read):
            self._problems.add(
                f"{self._origin} has {brief(name)}={brief(self._values[name])}, which is unknown "
                f"here and might change the model{did_you_mean(name, self._read)}"
            )

    def _take(self, name: str, fallback: T, default: T | None, is_valid: Any, rule: str) -> T:
        """Returns a valid value; `fallback`, with a problem recorded, where it is not."""
        self._read.add(name)
        if self._values.get(name) is None and default is not None:
            return default
        if name not in self._values:
            self._problems.add(f"{self._origin} lacks {name}, {rule}")
            return fallback
        if not is_valid(self._values[name]):
            self._problems.add(
                f"{self._origin} has {name}={brief(self._values[name])}, which must be {rule}"
            )
            return fallback
        return self._values[name]
