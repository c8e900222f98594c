"""The wheel, built and installed where the repository is not: commands, types, what it contains."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[1]
SOURCES = ("ktransformer", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")
USER_FILE = """\
from pathlib import Path

import ktransformer
from ktransformer.config import Config
from ktransformer.inspection import inspect
from ktransformer.tasks import Task, Translator, load
from ktransformer.text import Absent

config: Config = Config().replace({"epochs": 2})
facts: dict[str, object] = inspect(Path("run"), check=False)
task: Task = load("run")
translator: Translator = Translator.from_preset("run", beam_size=1)
wrong: int = Config()
"""
WRONG_LINES = [7, 13]
_OLDEST_EXTRAS = ("completion", "dates", "plots", "recipes")


def run(*arguments: object, cwd: Path, **options) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    line = [str(argument) for argument in arguments]
    options = {"capture_output": True, "encoding": "utf-8", "timeout": 900, **options}
    return subprocess.run(line, cwd=cwd, env=environment, check=False, **options)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The `bin` of an environment with the wheel, and of this one the packages it needs alone."""
    folder = tmp_path_factory.mktemp("package")
    sources = folder / "sources"
    for name in SOURCES:  # A build leaves files beside its sources.
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        sources.mkdir(exist_ok=True)
        copy(ROOT / name, sources / name)
    wheels = folder / "wheels"
    pip = (sys.executable, "-m", "pip", "-qq")
    built = run(*pip, "wheel", "--no-deps", "--wheel-dir", wheels, sources, cwd=folder)
    assert built.returncode == 0, built.stderr
    shutil.rmtree(sources)
    environment = folder / "environment"
    venv = (sys.executable, "-m", "venv", "--without-pip", environment)
    assert run(*venv, cwd=folder).returncode == 0
    # A path in a .pth file adds packages, but not the .pth file of the repository among them.
    place = sysconfig.get_path("purelib", vars={"base": environment, "platbase": environment})
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (Path(place) / "dependencies.pth").write_text("\n".join(packages))
    (wheel,) = wheels.iterdir()
    python = environment / "bin" / "python"
    install = ("--python", python, "install", "--no-deps", "--force-reinstall", wheel)
    result = run(*pip, *install, cwd=folder)
    assert result.returncode == 0, result.stderr
    names = zipfile.ZipFile(wheel).namelist()
    assert {"ktransformer/py.typed", "ktransformer/serving/page.html"} <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ktransformer"}
    return environment / "bin"


def test_the_oldest_versions_that_are_tested_are_the_lower_bounds():
    lines = (ROOT / "tests" / "oldest.txt").read_text().splitlines()[1:]
    pins = {name.lower(): Version(pin) for name, pin in (line.split("==") for line in lines)}
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = (setup["options.extras_require"][name] for name in _OLDEST_EXTRAS)
    needed = "\n".join([setup["options"]["install_requires"], *extras])
    bounds = re.findall(r"^([\w-]+)>=([\d.]+)", needed, re.MULTILINE)
    assert len(bounds) >= 15
    assert {name.lower(): Version(bound) for name, bound in bounds}.items() <= pins.items()


@pytest.mark.long
def test_a_wheel_trains_translates_exports_and_verifies_without_the_repository(
    installed, data_folder, tmp_path
):
    def command(*arguments: object, **options) -> str:
        result = run(installed / "ktransformer", *arguments, cwd=tmp_path, **options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    found = run(
        installed / "python", "-c", "import ktransformer as k; print(k.__file__)", cwd=tmp_path
    )
    assert Path(found.stdout.strip()).is_relative_to(installed.parent)
    sides = ["--source", data_folder / "train.source", "--target", data_folder / "train.target"]
    sizes = [
        part for size in ("d_model=32", "num_layers=1", "epochs=1") for part in ("--set", size)
    ]
    command("train", *sides, *sizes, "--output", "run")
    names = ("--signatures", "serving_default", "sentences")
    command("export", "run", "--format", "tflite", "--output", "run.tflite", *names)
    command("export", "run", "--output", "export")
    exports = ["run.tflite", "export"]
    report = command("verify", *exports, "--run", "run", "--source", data_folder / "test.source")
    assert "run.tflite" in report
    assert command("info", "run.tflite").startswith("form: .tflite\n")
    texts = "four zero two\n"
    lines = [command("translate", path, input=texts) for path in ("run", *exports)]
    assert lines[0] == lines[1] == lines[2]


@pytest.mark.long
@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])  # A pyright that brings its Node.
def test_the_types_are_seen_by_a_users_checker(checker, installed, tmp_path):
    if shutil.which(checker, path=str(Path(sys.executable).parent)) is None:
        pytest.skip(f"{checker} is not installed.")
    (tmp_path / "user.py").write_text(USER_FILE)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    program = Path(sys.executable).parent / checker
    python = installed / "python"
    options = {
        "mypy": ["--python-executable", python, "--ignore-missing-imports"],
        "basedpyright": ["--pythonpath", python],
    }
    result = run(program, *options[checker], "user.py", cwd=tmp_path)
    lines = re.findall(r"user\.py:(\d+):.* error: ", result.stdout)
    assert [*map(int, lines)] == WRONG_LINES, result.stdout + result.stderr
