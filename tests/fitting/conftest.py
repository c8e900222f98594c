from pathlib import Path

import pytest

from ktransformer.fitting import train
from tests.conftest import make_once
from tests.fitting.small_training import EVERY_UPDATE, TEXT, small


@pytest.fixture(scope="session")
def after_an_epoch(shared_folder: Path) -> Path:
    """The folder of a training of one epoch."""
    folder = shared_folder / "an_epoch"
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    return make_once(folder, lambda: train(config, TEXT, TEXT, checkpoints=folder))
