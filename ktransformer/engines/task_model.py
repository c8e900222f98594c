"""A task in this process, with the interface of an opened export."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.errors import InputError
from ktransformer.tasks import Task
from ktransformer.tasks.inputs import to_tensors


class TaskModel:
    """Runs the signatures of a task by name, as `SavedModel` and `LiteModel` run those of a file.

    Attributes:
        kind: Its form, `run`.
        path: Its folder; None for a model of this process.
        task: The task.
        description: The description that a SavedModel of the task would have.

    Args:
        task: The task.
        path: The folder that it was loaded from.
    """

    kind = "run"

    def __init__(self, task: Task, path: Path | None = None) -> None:
        self.task = task
        self.path = path
        self.description: Any = task.describe(tuple(task.saved_model_signatures()))

    def inputs(self, signature: str) -> list[str]:
        """Returns the names of a signature's inputs.

        Raises:
            InputError: There is no such signature.
        """
        return sorted(spec.name for spec in self._signature(signature).input_signature)

    def run(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: Its name.
            **inputs: Its inputs, by name.

        Returns:
            Its outputs, by name.

        Raises:
            InputError: There is no such signature, or it takes other inputs.
        """
        function = self._signature(signature)
        specs = {spec.name: spec for spec in function.input_signature}
        outputs = function(*to_tensors(signature, specs, inputs).values())
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    def warmup(self) -> None:
        """Does nothing: the first call traces the graphs for every later one of the process."""

    def _signature(self, name: str) -> Any:
        signatures = self.task.saved_model_signatures()  # Not kept: graphs cannot be pickled.
        if name not in signatures:
            known = ", ".join(signatures)
            raise InputError(f"signature must be one of {known}; got {name!r}.")
        return signatures[name]


class PublishedModel(TaskModel):
    """A published folder, imported. Its ids are not those of the run that it may be made from.

    Attributes:
        kind: Its form, `Hugging Face`.
        description: As of a `TaskModel`, without the signature `ids`.
    """

    kind = "Hugging Face"

    def __init__(self, task: Task, path: Path) -> None:
        super().__init__(task, path)
        texts = tuple(name for name in self.description.signatures if name != "ids")
        self.description = dataclasses.replace(self.description, signatures=texts)
