"""The registry of the kinds of model: by name, and by the class of the model."""

import importlib
from typing import TYPE_CHECKING, TypeVar

from ktransformer.errors import InputError

if TYPE_CHECKING:
    import keras

    from ktransformer.tasks.task import Task

T = TypeVar("T", bound="type[Task]")

_TASKS: dict[str, "type[Task]"] = {}
_OWN_MODULES = (
    "id_generator",
    "image_classifier",
    "mask_filler",
    "text_classifier",
    "text_embedder",
    "text_generator",
    "translator",
)


def register_task(task: T) -> T:
    """Registers a kind of model; a decorator of a subclass of `Task`.

    Loading, exporting, the engines and the commands find a kind in the registry alone, so a kind
    of your own works like those of the package as soon as its module is imported.

    Args:
        task: The class. Its `kind` is its name in folders and exports, so it must stay the same.

    Returns:
        The class, unchanged.

    Raises:
        ValueError: Another class has the same `kind`.

    Example:
        ```python
        @register_task
        class Tagger(Task):
            kind = "tagger"
            model_class = TaggerModel
            description_class = TaggerDescription
            ...
        ```
    """
    other = _TASKS.get(task.kind, task)
    if (other.__module__, other.__qualname__) != (task.__module__, task.__qualname__):
        raise ValueError(f"kind={task.kind!r} is already registered, by {other.__qualname__}.")
    _TASKS[task.kind] = task
    return task


def registered_tasks() -> "dict[str, type[Task]]":
    """Returns all kinds, by name; imports the modules of the package's own."""
    for name in _OWN_MODULES:
        importlib.import_module(f"ktransformer.tasks.{name}")
    own = {kind: task for kind, task in _TASKS.items() if _is_own(task)}
    return own | _TASKS  # The package's first, in whatever order they were imported.


def _is_own(task: "type[Task]") -> bool:
    return task.__module__.startswith("ktransformer.")


def find_task(kind: str, origin: object) -> "type[Task]":
    """Returns the task of a kind.

    Args:
        kind: Its name.
        origin: The folder or export that is of this kind, for the message.

    Raises:
        InputError: The kind is not registered.
    """
    tasks = registered_tasks()
    if kind not in tasks:
        raise InputError(
            f"{origin} is {with_article(kind)}, a kind that is not registered: import the module "
            f"that registers it; known are {', '.join(tasks)}."
        )
    return tasks[kind]


def find_task_of_model(model: "keras.Model") -> "type[Task] | None":
    """Returns the task for a model, by its class or the nearest base of it; None for none."""
    tasks = {task.model_class: task for task in registered_tasks().values()}
    return next((tasks[base] for base in type(model).__mro__ if base in tasks), None)


def with_article(kind: str) -> str:
    """Returns a kind with "a" or "an" before it."""
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"
