"""Folders of trained models of every kind: opened and written as tasks."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_file, new_folder
from ktransformer.saving.adapter import merge_adapter
from ktransformer.saving.folder import DESCRIPTION, MODEL, open_folder, write_description
from ktransformer.saving.run import CARD, CURVES
from ktransformer.saving.weights import check_weights
from ktransformer.tasks.registry import find_task, find_task_of_model, with_article
from ktransformer.tasks.task import Task, check_task
from ktransformer.tasks.translator import Translator

History = Mapping[str, Sequence[float]]


def save(
    task: Task, path: str | Path, *, overwrite: bool = False, history: History | None = None
) -> None:
    """Writes the folder of a task, whole or not at all; `load` opens it.

    Args:
        task: The task: a model with its tokenizer, the names of its classes, or the like.
        path: The folder to make.
        overwrite: Whether such a folder that is already there may be replaced.
        history: The metrics of each epoch of the training, `{"loss": [...], ...}`.

    Raises:
        InputError: `path` is a file, a folder that is there while `overwrite` is False, or one
            with other files; or the model is not built, or holds weights that are infinite or NaN.
        TypeError: `task` is no `Task`.

    Example:
        ```python
        ktransformer.tasks.save(MaskFiller(model, tokenizer), "runs/filler")
        filler = ktransformer.load("runs/filler")
        ```
    """
    check_task(task)
    check_weights(task.model)
    with new_folder(path, overwrite=overwrite, kind=folder_kind(type(task))) as folder:
        write(task, folder, history=history)


def write(
    task: Task, folder: str | Path, *, overwrite: bool = False, history: History | None = None
) -> None:
    """Writes a task into an existing folder, in which a caller writes more files.

    Args:
        task: The task.
        folder: The folder; `ktransformer.files.new_folder` makes one that appears whole or not at
            all.
        overwrite: Whether files of a model that are there may be replaced.
        history: As for `save`.

    Raises:
        InputError: A file is there and `overwrite` is False, or the model is not built, or holds
            weights that are infinite or NaN.
        TypeError: `task` is no `Task`.
    """
    check_task(task)
    check_weights(task.model)
    folder = Path(folder)
    for name in (DESCRIPTION, MODEL, *task.files):
        check_new_file(folder / name, overwrite=overwrite)
    task.model.save(folder / MODEL)
    task.write_files(folder)
    write_description(folder, task.kind, task.files, config=task.config, history=history or {})


def folder_kind(task: type[Task]) -> FolderKind:
    """Returns what `save` may replace: give it to `check_new_folder` before a long training."""
    name = f"the folder of {with_article(task.kind)}"
    return FolderKind(name, folder_files(task), required=(MODEL,))


def folder_files(task: type[Task]) -> tuple[str, ...]:
    """Returns the files of a kind's folder as patterns, for a `FolderKind` that holds more."""
    return tuple(
        re.escape(name)
        for name in (DESCRIPTION, MODEL, CARD, CURVES, *task.FILES, *task.OPTIONAL_FILES)
    )


def load(
    path: str | Path, *, check: bool = True, adapter: str | Path | None = None, **settings: Any
) -> Task:
    """Opens the folder of a trained model of any kind, a run's among them.

    Args:
        path: The folder, as `save`, `ktransformer train` or a recipe wrote it.
        check: Whether the files are compared with the checksums that were written with them.
        adapter: A file of `ktransformer.saving.adapter.save_adapter`, to merge into the weights;
            None for none.
        **settings: Other settings than the stored ones, such as `beam_size` or `top_k`; see
            `Task.with_settings`. None keeps the stored one.

    Returns:
        The task: a `Translator`, a `MaskFiller`, an `ImageClassifier`, or one that was registered
        by `register_task`.

    Raises:
        InputError: The folder or one of its files is missing, damaged or another model's, its
            kind is not registered, the kind has no such setting, or its value is outside its range;
            or the adapter is of other weights.
    """
    folder = open_folder(path, check=check)
    known = None if folder.kind is None else find_task(folder.kind, folder.path)
    if known is not None:
        folder.check_files(known.FILES, known.OPTIONAL_FILES, check=check)
        model = folder.load_model(lambda found: known.check_model_config(found, folder.config))
    else:
        model = folder.load_model(lambda found: None)
    found = find_task_of_model(model)
    if found is None or (known is not None and not isinstance(model, known.model_class)):
        wanted = "a model of a registered kind" if known is None else with_article(known.kind)
        raise InputError(f"{folder.path / MODEL} is a {type(model).__name__}, not {wanted}.")
    if adapter is not None:
        merge_adapter(model, adapter)
    chosen = known or found
    if known is None:
        folder.check_files(chosen.FILES, chosen.OPTIONAL_FILES, check=check)
        chosen.check_model_config(model.get_config(), folder.config)
    try:
        task = chosen.from_folder(model, folder.path, folder.config)
    except TypeError as error:
        raise InputError(
            f"{folder.path} is damaged: its configuration is not that of "
            f"{with_article(chosen.kind)}: {error}"
        ) from error
    return apply_settings(task, path, settings)


def apply_settings(task: Task, origin: object, settings: Mapping[str, Any]) -> Task:
    """Returns a task with other settings.

    Args:
        task: The task.
        origin: What it was opened from, for the message.
        settings: Values by name; None keeps the task's own.

    Raises:
        InputError: The kind has no such setting, or its value is outside its range.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    unknown = given.keys() - set(task.SETTINGS)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise InputError(f"{origin} is {with_article(task.kind)}, which has no setting {names}.")
    return task.with_settings(**given) if given else task


def load_translator(path: str | Path, *, check: bool = True, **settings: Any) -> Translator:
    """Opens the folder of a translator; see `load`.

    Raises:
        InputError: As `load`, or the folder holds another kind of model.
    """
    return as_translator(load(path, check=check, **settings), path)


def as_translator(task: Task, path: str | Path) -> Translator:
    """Returns a task that must be a translator.

    Raises:
        InputError: It is another kind.
    """
    if not isinstance(task, Translator):
        raise InputError(
            f"{path} is {with_article(task.kind)}, not {with_article(Translator.kind)}."
        )
    return task
