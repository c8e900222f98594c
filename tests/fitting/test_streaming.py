"""Training on a text that is streamed from shards: the command, killed and gone on with."""

import signal
import time

import keras
import pytest

from ktransformer.errors import InputError
from ktransformer.fitting import Resume, remove_checkpoints, train
from ktransformer.fitting.mixture import Mixture
from ktransformer.fitting.training_data import TrainingData
from ktransformer.fitting.training_text import InMemoryText, StreamedText
from ktransformer.saving.run import load_run
from ktransformer.text import PairFiles, ParallelFiles
from tests.fitting.small_training import EVERY_UPDATE, TEXT, assert_same, small, start
from tests.run_command import command, refusal
from tests.small_run import number_pairs, train_arguments, write_pairs
from tests.text.batch_checks import assert_same_batches


@pytest.fixture
def files(tmp_path):
    pairs = list(zip(TEXT.sources, TEXT.targets, strict=True))
    return ParallelFiles(*write_pairs(tmp_path, "text", pairs))


def written(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "shards").iterdir()}


def test_shards_are_taken_again_only_where_they_are_whole_and_the_same(files, tmp_path, caplog):
    def encode(**settings):
        return StreamedText(files, small(**settings), tmp_path / "c", reuse=True).encode()

    (tokenizer, _), batches = encode(shard_pairs=5)
    first = written(tmp_path / "c")
    (again, _), same = encode(shard_pairs=5)
    assert written(tmp_path / "c") == first
    assert again.model == tokenizer.model
    assert_same_batches(same.epoch(1), batches.epoch(1))
    damaged = tmp_path / "c" / "shards" / "00001.source.ids"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1])
    encode(shard_pairs=5)
    assert damaged.read_bytes() == content
    assert f"{damaged} is damaged" in caplog.text
    for settings in ({"shard_pairs": 6}, {"shard_pairs": 5, "max_length": 12}):
        before = written(tmp_path / "c")
        encode(**settings)
        assert written(tmp_path / "c") != before


def test_shards_with_weights_are_removed_like_others(tmp_path):
    lines = zip(TEXT.sources, TEXT.targets, (1, 2) * 12, strict=True)
    (tmp_path / "t.tsv").write_text("".join("{}\t{}\t{}\n".format(*line) for line in lines))
    text = PairFiles(tmp_path / "t.tsv")
    StreamedText(text, small(shard_pairs=5), tmp_path / "c", reuse=False).encode()
    assert (tmp_path / "c" / "shards" / "00000.weights").exists()
    remove_checkpoints(tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_same_settings_are_chosen_for_streamed_text_as_for_text_in_memory(files, tmp_path):
    config = small(vocabulary_size=None, batch_tokens=None, shard_pairs=5)
    found = []
    for text in (
        StreamedText(files, config, tmp_path / "c", reuse=True),
        InMemoryText(TEXT, config),
    ):
        _, batches = text.encode()
        found.append((text.config.data.vocabulary_size, text.config.data.batch_tokens))
        assert batches.batch_tokens == 512
        assert 24 * 2 < batches.tokens < 24 * 16
    assert found == [(300, 512)] * 2


def test_another_streamed_training_is_not_gone_on_with(files, tmp_path):
    settings = {**EVERY_UPDATE, "epochs": 1, "shard_pairs": 5}
    train(small(**settings), files, checkpoints=tmp_path / "c")
    for text, changes, message in (
        (files, {"shard_pairs": 6}, "5 pairs.*shard_pairs"),
        (TEXT, {}, "5 pairs.*shard_pairs"),
        (files, {"vocabulary_size": 29}, "vocabulary_size=30.*vocabulary_size=29"),
    ):
        with pytest.raises(InputError, match=message):
            train(small(**settings | changes), text, checkpoints=tmp_path / "c", start=Resume())


@pytest.mark.long
def test_how_many_pairs_may_be_held_changes_nothing_for_a_text_that_is_held(tmp_path):
    config = {**EVERY_UPDATE, "epochs": 1}
    train(small(**config, shard_pairs=24), TEXT, checkpoints=tmp_path)
    again = train(small(**config, shard_pairs=1000), TEXT, checkpoints=tmp_path, start=Resume())
    assert len(again.history["loss"]) == 1


def test_subword_sampling_of_a_streamed_text_is_refused_in_a_sentence(capsys, tmp_path):
    pairs = write_pairs(tmp_path, "text", number_pairs(50, seed=5))
    more = ("--set", "shard_pairs=49", "--set", "subword_alpha=0.3")
    sentence = refusal(capsys, *train_arguments(*pairs, tmp_path / "run", *more))
    assert "subword_alpha needs the text in memory" in sentence
    assert "more than shard_pairs=49 pairs" in sentence


@pytest.mark.parametrize(("streamed", "lines"), [(False, 1), (True, 0)])
def test_the_training_says_that_ray_does_not_encode_a_text_in_memory(
    streamed, lines, files, tmp_path, caplog
):
    caplog.set_level("INFO", "ktransformer")
    mixture = Mixture([files if streamed else TEXT])
    config = small(shard_pairs=24)
    TrainingData(lambda: (mixture, None), config, tmp_path, reuse=False, encode_on="localhost:1")
    sentence = "Ray encodes only streamed text, of more than shard_pairs=24 pairs"
    assert caplog.text.count(sentence) == lines


def test_a_text_that_cannot_be_encoded_leaves_nothing(capsys, tmp_path):
    pairs = write_pairs(tmp_path, "text", number_pairs(50, seed=5))
    more = ("--set", "shard_pairs=20", "--set", "max_length=2")
    sentence = refusal(capsys, *train_arguments(*pairs, tmp_path / "run", *more))
    assert "No pair has at most max_length=2 tokens" in sentence
    assert not list(tmp_path.glob("run*"))


class DamageAfterAnEpoch(keras.callbacks.Callback):
    """Cuts a file of the first shard, as a disk that fails would."""

    def __init__(self, checkpoints):
        super().__init__()
        self.path = checkpoints / "shards" / "00000.target.ids"

    def on_epoch_end(self, epoch, logs=None):
        self.path.write_bytes(self.path.read_bytes()[:-1])


def test_a_shard_that_is_damaged_during_the_training_is_named(files, tmp_path):
    damage = DamageAfterAnEpoch(tmp_path)
    config = small(epochs=20, shard_pairs=5)
    with pytest.raises(InputError, match=f"^{damage.path}"):
        train(config, files, checkpoints=tmp_path, callbacks=[damage])


@pytest.mark.long
def test_a_streamed_training_that_is_killed_ends_as_if_it_had_not_been(tmp_path):
    pairs = write_pairs(tmp_path, "text", number_pairs(3000, seed=5))
    settings = ("epochs=4", "checkpoint_minutes=0", "average_checkpoints=2", "shard_pairs=700")
    more = [word for setting in settings for word in ("--set", setting)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    checkpoints = tmp_path / "killed.checkpoints"
    assert command(*train_arguments(*pairs, whole, *more)).returncode == 0
    arguments = train_arguments(*pairs, killed, *more, "--resume")
    process = start(arguments, checkpoints)
    while process.poll() is None and not list(checkpoints.glob(".shards.*.new")):
        time.sleep(0.01)
    kill(process)
    assert not (checkpoints / "shards").exists()
    process = start(arguments, checkpoints / "training.npz")
    time.sleep(0.3)
    kill(process)
    result = command(*arguments)
    assert result.returncode == 0, result.stderr.decode()
    assert b"Going on after update" in result.stderr
    first, second = load_run(whole), load_run(killed)
    assert first.tokenizer.model == second.tokenizer.model
    assert_same(first.model.get_weights(), second.model.get_weights())
    assert first.history == second.history
    assert not checkpoints.exists()


def kill(process):
    process.kill()
    assert process.wait() == -signal.SIGKILL
