import importlib
import os
import re
import subprocess
import sys

import pytest

from ktransformer.runtime.noise import quiet_stderr, without_packages
from tests.run_command import command
from tests.small_run import train_arguments

# As a user has it: no log level is set.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}


def test_a_package_is_hidden_in_the_block_alone(tmp_path, monkeypatch):
    (tmp_path / "seldom_used.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with without_packages("seldom_used", "json"):
        with pytest.raises(ImportError):
            importlib.import_module("seldom_used")
        importlib.import_module("json")  # Imported before.
    importlib.import_module("seldom_used")


def test_a_command_starts_without_what_it_never_uses():
    for name in ("sklearn", "matplotlib"):
        pytest.importorskip(name)
    code = (
        "import sys\n"
        "from ktransformer.cli import main\n"
        "assert main(['translate', 'absent']) == 2\n"
        "print('tensorflow' in sys.modules, {'sklearn', 'matplotlib'} & set(sys.modules))\n"
        "import sklearn, matplotlib\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "True set()\n"
    assert result.returncode == 0, result.stderr


def python(code: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-c", code]
    return subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, check=True)


def test_known_noise_is_dropped_and_everything_else_is_kept(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    lines = (
        b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        b"I0000 00:00:1795853989.636140    8274 cudart_stub.cc:31] Could not find cuda drivers",
        b"2026-11-28 08:00:00.000001: W tensorflow/core/file.cc:1] Ignored output_format.",
        b"E0000 00:00:1795854383.551555   11634 cuda_platform.cc:52] failed call to cuInit",
        b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
        b"E0000 00:00:1795854383.551555   11634 file_system.cc:52] Disk failure",
        b"libfoo.so: no such file",
    )
    with quiet_stderr():
        os.write(2, b"\n".join(lines) + b"\n")
    errors = capfd.readouterr().err
    assert [line.split()[-1] for line in errors.splitlines()] == ["failure", "file"]


def test_what_was_held_back_is_shown_when_the_block_raises(capfd):
    def fail():
        with quiet_stderr():
            os.write(2, b"half of a mess")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert capfd.readouterr().err == "half of a mess"


def test_a_log_level_of_zero_shows_everything(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with quiet_stderr():
        os.write(2, b"I0000 00:00:1.1    8274 cudart_stub.cc:31] no GPU\n")
    assert capfd.readouterr().err.endswith("no GPU\n")


def test_one_call_in_jupyter_or_pythons_shell_drops_what_is_logged_there_alone():
    shown = {}
    for call in ("", "ktransformer.quiet()"):
        result = python(
            "import sys\n"
            "sys.ps1 = '>>> '\n"  # By this TensorFlow knows a shell.
            "import ktransformer\n"
            f"{call}\n"
            "import tensorflow as tf\n"
            "tf.get_logger().info('Assets written')\n"
            "tf.get_logger().warning('Mind this')\n"
        )
        shown[call] = [word for word in ("Assets written", "Mind this") if word in result.stdout]
    assert shown == {"": ["Assets written", "Mind this"], "ktransformer.quiet()": ["Mind this"]}


@pytest.mark.long
def test_one_call_from_python_leaves_stderr_empty(lite_file, saved_model):
    result = python(
        "import ktransformer\n"
        "ktransformer.quiet()\n"
        "from ktransformer.engines import LiteEngine\n"
        "from ktransformer.engines import SavedModelEngine\n"
        f"print(LiteEngine({str(lite_file)!r}).translate(['nine one']))\n"
        f"print(SavedModelEngine({str(saved_model)!r}).translate(['nine one']))\n"
    )
    assert (result.stdout, result.stderr) == ("['91']\n['91']\n", "")


@pytest.mark.long
def test_exports_from_python_are_quiet_too(run_folder, tmp_path):
    result = python(
        "import ktransformer\n"
        "ktransformer.quiet()\n"
        "from ktransformer.engines import load_translator\n"
        "from ktransformer.exporting import export_lite\n"
        "from ktransformer.exporting import export_saved_model\n"
        f"translator = load_translator({str(run_folder)!r})\n"
        "names = ['serving_default']\n"
        f"export_saved_model(translator, {str(tmp_path / 'model')!r}, signatures=names)\n"
        f"export_lite(translator, {str(tmp_path / 'm.tflite')!r}, signatures=names)\n"
    )
    assert result.stderr == ""


@pytest.mark.long
def test_a_call_that_comes_too_late_says_so():
    result = python(
        "import tensorflow\nimport ktransformer\nktransformer.quiet()\nktransformer.quiet()\n"
    )
    assert result.stderr.count("UserWarning: ktransformer.quiet() must be called before") == 1


@pytest.mark.long
def test_translating_with_a_tflite_prints_its_progress_alone(lite_file):
    result = command("translate", lite_file, input=b"nine one\n", env=ENVIRONMENT)
    assert result.stdout == b"91\n"
    assert re.fullmatch(rb"1 lines translated, [\d.]+ a second\.\n", result.stderr)


@pytest.mark.long
def test_a_training_prints_its_counts_and_epochs_alone(data_folder, tmp_path):
    sides = data_folder / "test.source", data_folder / "test.target"
    arguments = train_arguments(
        *sides, tmp_path / "run", "--set", "epochs=2", "--set", "warmup_steps=1"
    )
    lines = command(*arguments, env=ENVIRONMENT).stderr.decode().splitlines()
    ours = re.compile(r"Training|Chosen |Epoch \d/2|\d+/\d+ - |Wrote |Warning: ")
    assert [line for line in lines if not ours.match(line)] == []


@pytest.mark.long
def test_the_other_commands_print_nothing_else(run_folder, saved_model, data_folder, tmp_path):
    sides = "--source", data_folder / "test.source", "--reference", data_folder / "test.target"
    file, small = tmp_path / "m.tflite", tmp_path / "small.tflite"
    lite = ("--format", "tflite", "--output")
    few = ("--quantize", "dynamic_int8", "--signatures", "serving_default")
    for arguments, expected in (
        (("export", run_folder, "--output", tmp_path / "model"), b""),
        (("export", run_folder, *lite, file), b""),
        (("export", run_folder, *lite, small, *few), b""),
        (("verify", saved_model, file, "--run", run_folder, *sides), b""),
        (("evaluate", file, *sides), b""),
        (("evaluate", run_folder, *sides), b""),
        (("score", run_folder, *sides[:2], "--target", sides[3]), b""),
        (
            ("prune", run_folder, "--corpus", sides[1], sides[3], "--output", tmp_path / "pruned"),
            b"Wrote " + bytes(tmp_path / "pruned") + b".\n",
        ),
    ):
        result = command(*arguments, env=ENVIRONMENT)
        assert (result.returncode, result.stderr) == (0, expected), arguments
