"""Opens published models, and anything else that can be opened, as tasks."""

import dataclasses
from pathlib import Path
from typing import Any

from ktransformer import tasks
from ktransformer.config import Config
from ktransformer.conversion.folder import PublishedFolder, is_published
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.registry import find_family
from ktransformer.errors import InputError
from ktransformer.saving.adapter import merge_adapter
from ktransformer.saving.run import Run, load_run, save_run
from ktransformer.tasks import Task, Translator


@dataclasses.dataclass(frozen=True)
class Imported:
    """A published model, converted.

    Attributes:
        task: The model with its pre- and post-processing.
        config: The settings of a training that goes on from it; None for a kind of model that the
            command `train` does not train.
        notes: What a user should know of this model, a sentence each: what its exports lack, say.
    """

    task: Task
    config: Config | None = None
    notes: tuple[str, ...] = ()

    @property
    def run(self) -> Run:
        """The model as a run, with an empty history.

        Raises:
            InputError: It is a kind of model that the command `train` does not train.
        """
        task = self.task
        if self.config is None or not isinstance(task, Translator):
            raise InputError(
                f"A run must be {tasks.with_article(Translator.kind)}; got "
                f"{tasks.with_article(task.kind)}."
            )
        other = None if task.target_tokenizer is task.tokenizer else task.target_tokenizer
        return Run(self.config, task.tokenizer, task.model, {}, other)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes the folder of the run or of the task, whole or not at all.

        Args:
            path: The folder to make.
            overwrite: Whether such a folder that is already there may be replaced.

        Raises:
            InputError: See `tasks.save`.
        """
        if self.config is None:
            tasks.save(self.task, path, overwrite=overwrite)
        else:
            save_run(self.run, path, overwrite=overwrite)


def import_published(path: str | Path) -> Imported:
    """Converts a published model: a folder in Hugging Face's layout.

    Its `model_type` in config.json tells the family; see `registered_families`. Nothing of the
    folder is run.

    Args:
        path: The folder: config.json, safetensors or pytorch_model.bin, and the tokenizer's files.

    Returns:
        The converted model.

    Raises:
        InputError: The family is unknown, a file is missing or damaged, or the model has a setting
            or a tensor that has no counterpart here; all of these are named at once.

    Example:
        ```python
        imported = import_published("opus-mt-de-en")
        imported.task.translate_texts(["Guten Tag."])["text"]
        imported.save("runs/de-en")
        ```
    """
    folder, problems = PublishedFolder(path), Problems()
    imported = find_family(folder.config.get("model_type"), path)(folder, problems)
    problems.raise_if_any(path)
    return imported


def load(
    path: str | Path, *, check: bool = True, adapter: str | Path | None = None, **settings: Any
) -> Task:
    """Opens a trained model of any kind: a folder of ours, or a published one.

    Args:
        path: The folder; see `tasks.load` and `import_published`.
        check: Whether a folder of ours is compared with the checksums in its description.
        adapter: A file of `ktransformer.saving.adapter.save_adapter`, to merge into the weights;
            None for none.
        **settings: Settings of the kind, such as `beam_size`; None for the stored one.

    Returns:
        The task.

    Raises:
        InputError: See `tasks.load` and `import_published`.
    """
    if not is_published(path):
        return tasks.load(path, check=check, adapter=adapter, **settings)
    task = import_published(path).task
    if adapter is not None:
        merge_adapter(task.model, adapter)
    return tasks.apply_settings(task, path, settings)


def open_run(path: str | Path, *, check: bool = True) -> Run:
    """Opens a run, or a published translator as one.

    Args:
        path: The folder.
        check: As for `load`.

    Raises:
        InputError: See `load_run` and `import_published`; or it is another kind of model.
    """
    return import_published(path).run if is_published(path) else load_run(path, check=check)
