import random
import signal
import time
from pathlib import Path

import pytest

from ktransformer.saving.run import load_run
from tests.fitting.small_training import assert_same, start
from tests.run_command import command, limit_file_size
from tests.small_run import number_pairs, train_arguments, write_pairs


@pytest.fixture
def arguments(tmp_path):
    """The command line of a training of some seconds that writes its state at every update."""
    files = write_pairs(tmp_path, "text", number_pairs(1000, seed=5))
    names = ("validation-source", "validation-target")
    validation = [
        word for name, file in zip(names, files, strict=True) for word in (f"--{name}", str(file))
    ]
    settings = ("epochs=20", "checkpoint_minutes=0", "bleu_sentences=0", "average_checkpoints=3")
    more = [word for setting in settings for word in ("--set", setting)]

    def make(output: Path, *options: str) -> list[str]:
        return train_arguments(*files, output, *validation, *more, *options)

    return make


@pytest.mark.parametrize(
    "kills", [pytest.param(4, marks=pytest.mark.long), pytest.param(10, marks=pytest.mark.longest)]
)
def test_a_training_killed_at_random_moments_ends_as_if_it_had_not_been(arguments, kills, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    state = tmp_path / "killed.checkpoints" / "training.npz"
    epochs = "--set", f"epochs={5 * kills}"  # Not over before the last kill.
    assert command(*arguments(whole, *epochs)).returncode == 0
    moments = random.Random(0)
    for _ in range(kills):
        process = start(arguments(killed, *epochs, "--resume"), state)
        time.sleep(moments.uniform(0, 0.7))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    result = command(*arguments(killed, *epochs, "--resume"))
    assert result.returncode == 0, result.stderr.decode()
    assert b"Going on after update" in result.stderr
    first, second = load_run(whole), load_run(killed)
    assert_same(first.model.get_weights(), second.model.get_weights())
    assert first.history == second.history
    assert not state.parent.exists()


@pytest.mark.long
def test_a_full_disk_leaves_the_state_before(arguments, tmp_path):
    state = tmp_path / "run.checkpoints" / "training.npz"
    process = start(arguments(tmp_path / "run"), state)
    process.kill()
    process.wait()
    before = state.read_bytes()
    line = arguments(tmp_path / "run", "--resume")
    result = command(*line, preexec_fn=limit_file_size)  # Writing past it fails as on a full disk.
    assert result.returncode == 2
    assert (
        result.stderr.decode().splitlines()[-1]
        == "ktransformer: Writing the output: File too large."
    )
    assert state.read_bytes() == before
