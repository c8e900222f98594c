import re
import subprocess

import pytest
import yaml

from ktransformer.config import Config, read_settings
from tests.run_command import ROOT, program
from tests.small_run import TRAINING_SETTINGS

RECIPE = ROOT / "training" / "translation"


@pytest.mark.parametrize("name", ["multi30k", "multi30k_best", "multi30k_student"])
def test_a_configuration_is_read_and_changes_the_defaults(name):
    config = Config().replace(read_settings(RECIPE / f"{name}.yaml"))
    assert config.data.batch_tokens == 2048
    assert config != Config()


def measure_options(data_folder, folder, *more: str) -> subprocess.CompletedProcess:
    """Runs options.py on the number words, with `options.yaml` and its outputs in a folder."""
    sides = {
        f"--{prefix}{side}": data_folder / f"{name}.{side}"
        for prefix, name in (("", "train"), ("validation-", "validation"))
        for side in ("source", "target")
    }
    files = [str(word) for pair in sides.items() for word in pair]
    arguments = (folder / "options.yaml", *files, "--output", folder / "measured", *more)
    return program("training.translation.options", *arguments)


@pytest.mark.long
def test_options_are_measured_once_each_and_shown_in_a_table(data_folder, tmp_path):
    (tmp_path / "config.yaml").write_text("\n".join(TRAINING_SETTINGS).replace("=", ": "))
    options = tmp_path / "options.yaml"
    options.write_text(
        "config: config.yaml\ncommon: {epochs: 2}\n"
        "options:\n  as-it-is: {}\n  narrow: {d_model: 32, seed: 2}\n"
    )
    first = measure_options(data_folder, tmp_path, "--only", "narrow")
    assert first.returncode == 0, first.stderr
    row = first.stdout.splitlines()[-1]
    assert re.fullmatch(r"\| `d_model=32 seed=2` \| [\d,]+( \| [\d.]+){3} \|", row)
    again = measure_options(data_folder, tmp_path, "--only", "narrow")
    assert (again.stdout, again.stderr) == (first.stdout, "")
    record = tmp_path / "measured" / "narrow.json"
    options.write_text(options.read_text().replace("seed: 2", "seed: 3"))
    for more, sentence in (
        (("--only", "narrow"), "is of other settings"),
        (("--only", "wide"), "is no option 'wide'"),
        (("--at-a-time", "0"), "must be at least 1; got 0"),
    ):
        refused = measure_options(data_folder, tmp_path, *more)
        assert refused.returncode == 2
        assert sentence in refused.stderr
        assert refused.stderr.count("\n") == 1
    record.unlink()
    refused = measure_options(data_folder, tmp_path, "--only", "narrow")
    assert refused.returncode == 2
    assert "narrow has other settings or no log; remove it" in refused.stderr


def test_every_option_of_the_recipe_is_a_setting():
    content = yaml.safe_load((RECIPE / "options.yaml").read_text())
    base = Config().replace(read_settings(RECIPE / content["config"]))
    for own in content["options"].values():
        base.replace({**content["common"], **own})


@pytest.mark.long
def test_the_report_draws_the_losses_and_shows_translations(run_folder, data_folder, tmp_path):
    text = ("--source", data_folder / "test.source", "--reference", data_folder / "test.target")
    result = program("training.translation.report", run_folder, *text, "--output", tmp_path)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(result.stdout.splitlines()) == 12


@pytest.mark.parametrize("number", ["2", "3", "0"])
def test_the_nearest_of_several_translations_is_kept(tmp_path, number):
    reference = tmp_path / "reference"
    reference.write_text("ein Hund läuft schnell\nzwei Katzen\n", encoding="utf-8")
    lines = "ein Hund\nein Hund läuft\nzwei Katzen\nzwei Hunde"
    arguments = ("--n-best", number, "--reference", reference)
    result = program("training.translation.nearest", *arguments, input=lines)
    if number == "2":
        assert result.returncode == 0
        assert result.stdout == "ein Hund läuft\nzwei Katzen\n"
    else:
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert "the lines are 4" in result.stderr
