import contextlib
import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ktransformer.cli import main
from ktransformer.cli.arguments import make_parser
from ktransformer.config import CHOICES, Config
from ktransformer.engines import ModelEngine, Translation
from ktransformer.tasks import ImageClassifier, MaskFiller, Translator
from tests.run_command import command, limit_file_size, refusal
from tests.small_run import train_arguments


def test_translate_gives_a_line_for_a_line_in_order(run_folder, translate):
    status, output, progress = translate("four zero two\n\nnine\none one", run_folder)
    assert status == 0
    assert output.splitlines() == ["402", "", "9", "11"]
    assert re.search(r"4 lines translated, [\d.]+ a second\.\n$", progress)


def test_translate_answers_a_line_before_the_next_one_comes(run_folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "ktransformer", "translate", str(run_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    for text, translation in ((b"three\n", b"3\n"), (b"nine\n", b"9\n")):
        process.stdin.write(text)
        process.stdin.flush()
        assert process.stdout.readline() == translation
    process.stdin.close()
    assert process.wait(60) == 0


def test_translate_prints_n_best_lines_for_each_line(run_folder, translate):
    text = "four zero two\nnine\n"
    _, output, _ = translate(text, run_folder, "--n-best", 2, "--beam-size", 4)
    lines = output.splitlines()
    assert len(lines) == 4
    assert (lines[0], lines[2]) == ("402", "9")
    assert lines[0] != lines[1]


def test_translate_reports_lines_that_are_cut(run_folder, translate, caplog):
    _, output, _ = translate("one " * 40 + "\ntwo\n", run_folder)
    assert "1 texts were cut to 24 tokens" in caplog.text
    assert output.splitlines()[1] == "2"


@pytest.mark.parametrize("form", ["run_folder", "saved_model", "lite_file"])
def test_translate_warns_of_characters_that_the_tokenizer_has_never_seen(
    form, translate, caplog, request
):
    status, output, _ = translate("seven\nSEVEN,\n", request.getfixturevalue(form))
    assert status == 0
    assert output.splitlines()[0] == "7"
    (warning,) = [line for line in caplog.messages if "never seen" in line]
    assert warning.startswith("1 texts hold characters")
    assert "6 in all: 'E' (2), 'S' (1), 'V' (1), 'N' (1), ',' (1)." in warning


def test_translate_warns_of_no_character_where_all_are_known(run_folder, translate, caplog):
    translate("seven\nnine\t\uff4fne\n", run_folder)
    assert "never seen" not in caplog.text


def test_translate_keeps_a_line_a_line_whatever_the_model_says(run_folder, translate, monkeypatch):
    said = Translation(["a\nb\r\nc"], [0.0], False)
    monkeypatch.setattr(ModelEngine, "search", lambda self, texts, n: [said] * len(texts))
    _, output, _ = translate("one\ntwo\n", run_folder)
    assert output == "a b  c\na b  c\n"


def test_translate_stops_quietly_when_its_reader_has_seen_enough(run_folder):
    line = f"{sys.executable} -m ktransformer translate {run_folder}"
    result = subprocess.run(
        f"yes one | head -n 3000 | {line} | head -n 1",
        shell=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert result.stdout == b"1\n"
    assert b"Traceback" not in result.stderr


def test_translate_names_the_line_that_is_not_utf8(run_folder, translate):
    status, _, errors = translate(b"one\n\xff\xfe\n", run_folder)
    assert status == 2
    assert "ktransformer: standard input, line 2, is not valid UTF-8" in errors


def test_evaluate_prints_one_json_line(run_folder, data_folder, capfd):
    arguments = [
        "--source",
        data_folder / "test.source",
        "--reference",
        data_folder / "test.target",
    ]
    assert main(["evaluate", str(run_folder), *map(str, arguments)]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["exact_match"] >= 0.9
    assert result["sentences"] == 60
    assert "tok:13a" in result["signature"]
    assert 0 <= result["bleu"] <= 100
    assert result["chrf"] > 90


def test_a_byte_order_mark_costs_evaluate_no_match_and_unknown_characters_are_warned_of(
    run_folder, tmp_path, capfd, caplog
):
    (tmp_path / "source").write_bytes(b"\xef\xbb\xbffour two\nnine!\n")
    (tmp_path / "reference").write_bytes(b"\xef\xbb\xbf42\n0\n")
    files = ["--source", tmp_path / "source", "--reference", tmp_path / "reference"]
    assert main(["evaluate", str(run_folder), *map(str, files)]) == 0
    assert json.loads(capfd.readouterr().out)["exact_match"] == 0.5
    assert "1 texts hold characters" in caplog.text
    assert "'!' (1)" in caplog.text


def test_score_prints_log_probability_and_tokens_of_each_pair(run_folder, tmp_path, capfd):
    (tmp_path / "s").write_text("four zero two\nfour zero two\n")
    (tmp_path / "t").write_text("402\n999\n")
    arguments = ["--source", tmp_path / "s", "--target", tmp_path / "t"]
    assert main(["score", str(run_folder), *map(str, arguments)]) == 0
    (right, tokens), (wrong, _) = (line.split("\t") for line in capfd.readouterr().out.splitlines())
    assert float(wrong) < float(right) < 0
    assert int(tokens) >= 2


def test_score_reports_pairs_that_are_cut_on_either_side(run_folder, tmp_path, caplog):
    (tmp_path / "s").write_text("one\n" + "one " * 40 + "\n")
    (tmp_path / "t").write_text("1" * 40 + "\n1\n")
    arguments = ["--source", tmp_path / "s", "--target", tmp_path / "t"]
    assert main(["score", str(run_folder), *map(str, arguments)]) == 0
    assert "2 pairs were cut: a source to 24 tokens or a target to 24." in caplog.text


def test_help_shows_every_setting_and_its_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    settings = capsys.readouterr().out
    for section in dataclasses.asdict(Config()).values():
        for name in section:
            assert f"    {name} = " in settings
    assert "warmup_steps = null" in settings


def test_help_shows_what_a_setting_may_be_where_it_is_one_of_several_words(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    settings = capsys.readouterr().out
    for name, choices in CHOICES.items():
        (line,) = [line for line in settings.splitlines() if line.startswith(f"    {name} = ")]
        assert line.endswith(f"  ({', '.join(choices)})")
    assert "    norm_first = false  (true, false)\n" in settings


def test_help_shows_the_signatures_of_every_kind_of_model(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["export", "--help"])
    words = set(re.findall(r"\w+", capsys.readouterr().out))
    for kind in (Translator, MaskFiller, ImageClassifier):
        assert set(kind.LITE_SIGNATURES) <= words


def test_wrong_paths_are_named(run_folder, tmp_path, capsys):
    absent = tmp_path / "absent"
    assert "no such file or folder" in refusal(capsys, "translate", absent)
    assert "no such folder" in refusal(capsys, "export", absent, "--output", tmp_path / "out")
    train = ["train", "--source", absent, "--target", absent, "--output", tmp_path / "out"]
    assert f"Cannot read {absent}" in refusal(capsys, *train)
    evaluate = ["evaluate", run_folder, "--source", absent, "--reference", absent]
    assert f"Cannot read {absent}" in refusal(capsys, *evaluate)


def test_a_model_that_memory_does_not_hold_is_refused_in_a_sentence(data_folder, tmp_path, capsys):
    sides = data_folder / "test.source", data_folder / "test.target"
    sizes = ("max_length=1000000", "batch_tokens=1000000", "d_model=65536")
    settings = (*sizes, "positions=learned")  # A table of 262 GB.
    large = [word for setting in settings for word in ("--set", setting)]
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run", *large))
    assert "Not enough memory (" in message
    assert "take a smaller model or smaller batches." in message
    assert not list(tmp_path.iterdir())


def test_an_output_below_a_file_is_refused_before_training(data_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "file" / "run"))
    assert "is not a folder one may write to" in message


def test_an_empty_file_is_refused(tmp_path, capsys):
    (tmp_path / "empty").touch()
    message = refusal(
        capsys, *train_arguments(tmp_path / "empty", tmp_path / "empty", tmp_path / "o")
    )
    assert "no pair with text on both sides" in message
    assert not (tmp_path / "o").exists()


def test_different_numbers_of_lines_are_refused(data_folder, tmp_path, capsys):
    sides = data_folder / "train.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run"))
    assert "got 3000 in" in message
    assert "and 60 in" in message


def test_an_unknown_setting_lists_the_known_ones(data_folder, tmp_path, capsys):
    sides = data_folder / "test.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run", "--set", "width=3"))
    assert "Unknown setting 'width'" in message
    assert "d_model" in message


@pytest.mark.parametrize(
    ("option", "value", "suggestion"),
    [
        ("--set", "learning_rat=1", "learning_rate"),
        ("--set", "Epoch=1", "epochs"),
        ("--preset", "bas", "base"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_one_that_is_like_it(
    option, value, suggestion, tmp_path, capsys
):
    arguments = train_arguments(tmp_path / "s", tmp_path / "t", tmp_path / "run", option, value)
    assert refusal(capsys, *arguments).endswith(f" Did you mean {suggestion!r}?")


def test_a_mistyped_name_in_a_file_of_settings_is_answered_too(tmp_path, capsys):
    for text, suggestion in (("trainin:\n  epochs: 3", "training"), ("d_modle: 8", "d_model")):
        (tmp_path / "settings.yaml").write_text(text)
        arguments = train_arguments(tmp_path / "s", tmp_path / "t", tmp_path / "run")
        message = refusal(capsys, *arguments, "--config", tmp_path / "settings.yaml")
        assert message.endswith(f" Did you mean {suggestion!r}?")


def test_sizes_that_do_not_go_together_are_refused(data_folder, tmp_path, capsys):
    sides = data_folder / "test.source", data_folder / "test.target"
    message = refusal(capsys, *train_arguments(*sides, tmp_path / "run", "--set", "num_heads=5"))
    assert "d_model must be a multiple of num_heads" in message


def test_a_run_that_is_already_there_is_not_replaced(run_copy, data_folder, capsys):
    before = (run_copy / "model.json").read_bytes()
    sides = data_folder / "test.source", data_folder / "test.target"
    assert "already exists" in refusal(capsys, *train_arguments(*sides, run_copy))
    assert (run_copy / "model.json").read_bytes() == before


def test_a_source_that_is_not_there_leaves_the_state_of_a_training_that_was_cut(tmp_path, capsys):
    kept = tmp_path / "run.checkpoints" / "training.npz"
    kept.parent.mkdir()
    kept.touch()
    arguments = train_arguments(tmp_path / "typo", tmp_path / "typo", tmp_path / "run")
    assert "typo" in refusal(capsys, *arguments, "--overwrite")
    assert kept.exists()


def test_keras_on_jax_is_refused_in_a_sentence(run_folder):
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    result = command("translate", run_folder, env=environment)
    assert result.returncode == 2
    assert result.stderr.startswith(b"ktransformer: Keras is set to jax, by KERAS_BACKEND")
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize("module", ["tasks", "exporting", "engines", "text", "fitting"])
def test_keras_on_a_backend_that_is_not_supported_is_refused_on_import(module):
    result = subprocess.run(
        [sys.executable, "-c", f"import ktransformer.{module}"],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
        check=False,
    )
    assert result.stderr.splitlines()[-1].startswith("ImportError: Keras is set to torch, by ")


def test_the_command_refuses_a_backend_that_is_not_installed_and_one_in_keras_json(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "openvino"}')
    for name, setting in (("KERAS_BACKEND", "torch"), ("KERAS_HOME", str(tmp_path))):
        environment = {key: os.environ[key] for key in os.environ if key != "KERAS_BACKEND"}
        result = command("translate", "run", env={**environment, name: setting})
        backend = b"openvino" if name == "KERAS_HOME" else b"torch"
        assert result.returncode == 2
        assert result.stderr.startswith(b"ktransformer: Keras is set to " + backend + b", by ")
        assert result.stderr.count(b"\n") == 1


def test_a_file_whose_name_is_no_utf8_is_named(run_folder):
    name = os.fsdecode(b"\xff.txt")
    result = command("evaluate", run_folder, "--source", name, "--reference", name)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(b"ktransformer: Cannot read \\udcff.txt: ")


def test_a_folder_for_tensorboard_that_cannot_be_made_is_refused(data_folder, tmp_path, capsys):
    (tmp_path / "file").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    setting = f"tensorboard={tmp_path / 'file' / 'logs'}"
    arguments = train_arguments(*sides, tmp_path / "run", "--set", setting)
    assert "is not a folder one may write to" in refusal(capsys, *arguments)


def test_a_closed_stream_is_said_where_there_is_a_place_to_say_it():
    result = command("translate", "run", preexec_fn=lambda: os.close(0))
    assert result.returncode == 2
    assert result.stderr == b"ktransformer: A standard stream is closed.\n"


def test_files_of_options_that_are_repeated_follow_on():
    line = "train --source a --source b c --target d e f --output run"
    options = make_parser().parse_args(line.split())
    assert (options.source, options.target) == (["a", "b", "c"], ["d", "e", "f"])


def test_a_folder_that_is_not_a_run_is_not_overwritten(data_folder, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    arguments = train_arguments(*sides, tmp_path / "photos", "--overwrite")
    assert "is not a run folder" in refusal(capsys, *arguments)
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_a_run_that_cannot_be_saved_leaves_its_checkpoints(data_folder, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ktransformer.cli.commands.save_run", full)
    sides = data_folder / "test.source", data_folder / "test.target"
    assert main(train_arguments(*sides, tmp_path / "run", "--set", "epochs=1")) == 2
    assert list((tmp_path / "run.checkpoints").glob("epoch-*.npz"))


def test_a_folder_in_the_place_of_the_checkpoints_is_left_alone(data_folder, tmp_path, capsys):
    (tmp_path / "run.checkpoints").mkdir()
    (tmp_path / "run.checkpoints" / "thesis.txt").touch()
    sides = data_folder / "test.source", data_folder / "test.target"
    assert "move it away" in refusal(capsys, *train_arguments(*sides, tmp_path / "run"))
    assert (tmp_path / "run.checkpoints" / "thesis.txt").exists()


@pytest.mark.parametrize("option", ["--batch-size", "--beam-size", "--n-best"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_size_that_is_no_positive_number_is_refused(option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["translate", "run", option, value])
    assert f"argument {option}" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-0.1", "nan", "inf", "much"])
def test_a_length_penalty_that_is_no_number_from_zero_is_refused(value, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["translate", "run", f"--length-penalty={value}"])
    message = f"argument --length-penalty: must be a number from 0; got {value}"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", ["model.json", "tokenizer.model", "model.keras"])
def test_a_run_that_lacks_a_file_is_refused(name, run_copy, capsys):
    (run_copy / name).unlink()
    assert f"{name} is missing" in refusal(capsys, "translate", run_copy)


@pytest.mark.parametrize("name", ["model.json", "tokenizer.model", "model.keras"])
def test_a_run_with_a_damaged_file_is_refused(name, run_copy, capsys):
    (run_copy / name).write_bytes(b"\x00 not what it was")
    refusal(capsys, "translate", run_copy)


def test_a_run_of_a_newer_version_is_refused(run_copy, capsys):
    description = json.loads((run_copy / "model.json").read_text())
    description |= {"format_version": 999, "ktransformer": "99.0"}
    (run_copy / "model.json").write_text(json.dumps(description))
    assert "newer than this one" in refusal(capsys, "translate", run_copy)


def test_a_disk_that_fills_up_leaves_the_old_run_whole(run_copy, data_folder):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    result = command(
        *("prune", run_copy, "--corpus", data_folder / "test.source", "--min-count", 2),
        *("--output", run_copy, "--overwrite"),
        preexec_fn=limit_file_size,  # Writing past it fails as on a full disk.
    )
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(b"ktransformer: ")
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before
    assert not list(run_copy.parent.glob(".run*"))


@pytest.mark.long
def test_ctrl_c_during_training_leaves_the_old_run_whole(run_copy, data_folder):
    before = (run_copy / "model.keras").read_bytes()
    sides = data_folder / "train.source", data_folder / "train.target"
    arguments = train_arguments(*sides, run_copy, "--overwrite", "--set", "epochs=500")
    with _training(arguments, subprocess.PIPE) as process:
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert errors.splitlines()[-1].startswith(b"ktransformer: Interrupted")
    assert (run_copy / "model.keras").read_bytes() == before


@contextlib.contextmanager
def _training(arguments: list[str], errors: int) -> Iterator[subprocess.Popen]:
    """Starts a training, waits for the weights of its first epoch, and kills it in the end."""
    checkpoints = Path(f"{arguments[arguments.index('--output') + 1]}.checkpoints")
    line = [sys.executable, "-m", "ktransformer", *arguments]
    with subprocess.Popen(line, stderr=errors) as process:
        try:
            end = time.monotonic() + 120
            while not list(checkpoints.glob("epoch-*")):
                assert process.poll() is None, "The process ended before it was interrupted."
                assert time.monotonic() < end, "It took too long."
                time.sleep(0.2)
            yield process
        finally:
            process.kill()


def test_a_training_that_is_killed_leaves_the_old_run_whole(run_copy, data_folder):
    before = {path.name: path.read_bytes() for path in run_copy.iterdir()}
    sides = data_folder / "train.source", data_folder / "train.target"
    arguments = train_arguments(*sides, run_copy, "--overwrite", "--set", "epochs=500")
    with _training(arguments, subprocess.DEVNULL) as process:
        process.kill()
    assert {path.name: path.read_bytes() for path in run_copy.iterdir()} == before
