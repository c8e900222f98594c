"""Translates with a model of this process."""

import numpy as np

from ktransformer.engines.engine import Engine
from ktransformer.engines.task_model import TaskModel
from ktransformer.tasks.translator import Translator


class ModelEngine(Engine):
    """Runs a translator of this process: a run's, or one of a model in training.

    Args:
        translator: The translator.
    """

    kind = TaskModel.kind

    def __init__(self, translator: Translator) -> None:
        self._model = TaskModel(translator)
        super().__init__(self._model.description)
        self.translator = translator

    def run(self, signature: str, texts: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        return self._model.run(signature, texts=texts, **others)
