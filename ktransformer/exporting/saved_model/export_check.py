"""Compares a quantised SavedModel with its model before it is renamed into place."""

from pathlib import Path

from ktransformer.errors import InputError
from ktransformer.exporting.difference import ROUGH_TOLERANCE, find_difference
from ktransformer.exporting.saved_model.opened import SavedModel
from ktransformer.tasks import Task


def check_written(folder: Path, task: Task) -> None:
    """Checks that a SavedModel opens and gives the model's outputs within `ROUGH_TOLERANCE`.

    Args:
        folder: Its folder.
        task: The task that was written.

    Raises:
        InputError: It does not open, or a signature has other outputs.
    """
    model = SavedModel(folder)
    for name, function in task.saved_model_signatures().items():
        probe = task.probe(name) if name in model.description.signatures else None
        if probe is None:
            continue
        expected = {key: tensor.numpy() for key, tensor in function(**probe).items()}
        found = model.run(name, **{key: tensor.numpy() for key, tensor in probe.items()})
        wrong = find_difference(
            task.by_choice(name, expected),
            task.by_choice(name, found),
            ROUGH_TOLERANCE,
            ranked_by=task.RANKED_BY,
            argmax_of=task.ARGMAX_OF,
            pad_id=task.pad_id,
        )
        if wrong is not None:
            raise InputError(f"The quantised {name} gives another {wrong} than the model.")
