from pathlib import Path

import pytest

from ktransformer.fitting import train
from tests.conftest import make_once
from tests.fitting.on_jax import finish, start
from tests.fitting.small_training import EVERY_UPDATE, TEXT, small
from tests.small_run import number_pairs, write_pairs


@pytest.fixture(scope="session")
def after_an_epoch(shared_folder: Path) -> Path:
    """The folder of a training of one epoch."""
    folder = shared_folder / "an_epoch"
    config = small(**{**EVERY_UPDATE, "epochs": 1})
    return make_once(folder, lambda: train(config, TEXT, TEXT, checkpoints=folder))


@pytest.fixture(scope="session")
def jax_folder(shared_folder: Path) -> Path:
    """The folder of the runs on JAX: its text, and `two`, which two processes trained."""
    folder = shared_folder / "on-jax"
    folder.mkdir(exist_ok=True)

    def make() -> None:
        write_pairs(folder, "text", number_pairs(120, seed=5))
        finish(start(folder, "two", processes=2))

    return make_once(folder / "two", make).parent


@pytest.fixture(scope="session")
def jax_whole(jax_folder: Path) -> Path:
    """A run that JAX trained on one device, without a cut."""
    folder = jax_folder / "whole"
    return make_once(folder, lambda: finish(start(jax_folder, "whole")))
