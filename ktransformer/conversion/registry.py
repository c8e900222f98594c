"""The registry of the families of published models, by their `model_type`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ktransformer.errors import InputError, brief, did_you_mean

if TYPE_CHECKING:
    from ktransformer.conversion.folder import PublishedFolder
    from ktransformer.conversion.importing import Imported
    from ktransformer.conversion.problems import Problems

Converter = Callable[["PublishedFolder", "Problems"], "Imported"]

_FAMILIES: dict[str, Converter] = {}


def register_family(model_type: str) -> Callable[[Converter], Converter]:
    """Registers the converter of a family; a decorator.

    The converter reads the configuration and the tensors of a `PublishedFolder`, records what it
    cannot express in `Problems`, and returns the `Imported` model.

    Args:
        model_type: The family's name in config.json.

    Raises:
        ValueError: Another function is registered for it.

    Example:
        ```python
        @register_family("my-bert")
        def convert(folder, problems):
            settings = Settings(folder.config, problems)
            ...
        ```
    """

    def register(converter: Converter) -> Converter:
        other: Any = _FAMILIES.get(model_type, converter)
        if (other.__module__, other.__qualname__) != (
            converter.__module__,
            converter.__qualname__,
        ):
            raise ValueError(f"model_type={model_type!r} is already registered, by {other}.")
        _FAMILIES[model_type] = converter
        return converter

    return register


def registered_families() -> dict[str, Converter]:
    """Returns the converters, by `model_type`."""
    return dict(_FAMILIES)


def find_family(model_type: object, origin: object) -> Converter:
    """Returns the converter of a family.

    Args:
        model_type: The name in config.json.
        origin: The folder, for the message.

    Raises:
        InputError: There is none.
    """
    if not isinstance(model_type, str) or model_type not in _FAMILIES:
        raise InputError(
            f"{origin} cannot be imported: its model_type must be one of "
            f"{', '.join(_FAMILIES)}; got {brief(model_type)}."
            + did_you_mean(model_type, _FAMILIES)
        )
    return _FAMILIES[model_type]
