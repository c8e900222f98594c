"""Runs the command and the recipes' programs, in a process of their own or in this one."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ktransformer.cli import main

ROOT = Path(__file__).parents[1]


def command(*arguments: object, **options) -> subprocess.CompletedProcess:
    """Runs the command in a process of its own."""
    line = [sys.executable, "-m", "ktransformer", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, timeout=300, check=False, **options)


def program(module: str, *arguments: object, **options) -> subprocess.CompletedProcess:
    """Runs a program of `training` or `export`, such as `training.dates.demo`."""
    line = [sys.executable, "-m", module, *map(str, arguments)]
    options = {"capture_output": True, "encoding": "utf-8", "timeout": 600, **options}
    return subprocess.run(line, cwd=ROOT, check=False, **options)


def refusal(capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """Runs the command in this process; it must exit with 2 and one sentence, returned."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert captured.out == ""
    assert lines[-1].startswith("ktransformer: ")
    assert "Traceback" not in captured.err
    return lines[-1]


def limit_file_size() -> None:
    """Makes writing a large file fail as on a full disk, in the process that calls it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
