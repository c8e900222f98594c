"""What the README shows is run, as it stands, in a folder with the files that it names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def user_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder with a small parallel text under the README's names."""
    folder = tmp_path_factory.mktemp("user")
    animals = {"dogs": "Hunde", "cats": "Katzen", "horses": "Pferde", "birds": "Vögel"}
    deeds = {"running": "rennen", "sleeping": "schlafen", "eating": "fressen"}
    pairs = [
        (f"{count} {animal} are {deed}.", f"{anzahl} {tier} {tun}.")
        for count, anzahl in (("Two", "Zwei"), ("Three", "Drei"), ("Ten", "Zehn"))
        for animal, tier in animals.items()
        for deed, tun in deeds.items()
    ]
    for name, chosen in (("train", pairs), ("test", pairs[::5]), ("new", pairs[:3])):
        for side, suffix in enumerate(("en", "de")):
            lines = [pair[side] for pair in chosen]
            (folder / f"{name}.{suffix}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "new.de").unlink()
    return folder


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def after_the_commands(user_folder: Path) -> Path:
    script = "set -eu\n" + "".join(blocks("sh"))
    result = run(["sh", "-c", script], user_folder)
    assert result.returncode == 0, result.stderr
    return user_folder


@pytest.mark.long
def test_the_commands_train_translate_evaluate_score_and_export(after_the_commands):
    translated = (after_the_commands / "new.de").read_text(encoding="utf-8")
    assert len(translated.splitlines()) == 3
    assert (after_the_commands / "model" / "1" / "saved_model.pb").is_file()
    assert (after_the_commands / "mine.tflite").is_file()


@pytest.mark.long
def test_the_python_code_serves_subclasses_trains_and_exports(after_the_commands):
    saved_model, lite, *subclassing = blocks("python")
    for serving in (saved_model, lite):
        result = run([sys.executable, "-c", serving], after_the_commands)
        assert result.returncode == 0, result.stderr
    result = run([sys.executable, "-c", "\n".join(subclassing)], after_the_commands)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert {str(Path("subclass") / "1"), "subclass.tflite"} <= set(lines)
    assert sum(bool(re.match(r"0\.\d{3} ", line)) for line in lines) == 5
    assert lines[-1] == str(Path("vision") / "1")


@pytest.mark.long
def test_the_client_translates_a_pipe_with_the_export(after_the_commands):
    client = ROOT / "export" / "client.py"
    result = subprocess.run(
        [sys.executable, client, "model/1"],
        cwd=after_the_commands,
        input="Two dogs are running.\n\n",
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert len(result.stdout.splitlines()) == 2
    assert result.stdout.splitlines()[1] == ""


def test_every_folder_and_link_that_is_named_exists():
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    folders = re.findall(r"^\| `([a-z]+/)` \|", TEXT, flags=re.MULTILINE)
    assert links
    assert len(folders) == 5
    for name in [*links, *folders]:
        assert (ROOT / name).exists(), name
