"""The options of the commands, and their help."""

import dataclasses
import importlib.util
import shlex
import subprocess
import sys

import pytest

from ktransformer.cli import main
from ktransformer.cli.command_line import COMMANDS, make_parser
from ktransformer.config import CHOICES, Config


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


def test_every_command_has_an_example_that_its_options_take(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        example = capsys.readouterr().out.split("\nexample:\n")[1].replace("\\\n", "")
        lines = [line for line in example.splitlines() if f"ktransformer {name} " in line]
        assert lines, name
        for line in lines:
            words = shlex.split(line.split(f"ktransformer {name} ")[1].split(" < ")[0])
            assert make_parser().parse_args([name, *words]).command == name


def test_the_command_alone_shows_all_commands_and_where_to_start(capsys):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert "ktransformer train --source" in shown


def test_a_shell_completes_commands_and_options(capsys):
    if importlib.util.find_spec("shtab") is None:
        with pytest.raises(SystemExit, match="2"):
            main(["--print-completion", "bash"])
        assert "ktransformer[completion]" in capsys.readouterr().err
        return
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    checked = "compgen() { :; }; complete() { :; }\n" + script
    assert subprocess.run(["bash", "-n"], input=checked, text=True, check=True).returncode == 0
    assert "translate" in script
    assert "--beam-size" in script


def test_help_answers_without_tensorflow():
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['keras'] = sys.modules['numpy'] = None\n"
        "from ktransformer.cli.command_line import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    try:\n        main([name, '--help'])\n"
        "    except SystemExit as exit:\n        assert exit.code == 0, name\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stdout.count(b"usage: ktransformer ") == len(COMMANDS)


def test_an_error_of_an_option_does_not_steer_the_terminal(capsys):
    for line in (["score", "run", "--batch-size", "1\x1b[2J"], ["\x1b[2J"]):
        with pytest.raises(SystemExit, match="2"):
            main(line)
        message = capsys.readouterr().err
        assert "\x1b" not in message
        assert r"\x1b[2J" in message


def test_files_of_options_that_are_repeated_follow_on():
    line = "train --source a --source b c --target d e f --output run"
    options = make_parser().parse_args(line.split())
    assert (options.source, options.target) == (["a", "b", "c"], ["d", "e", "f"])


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
