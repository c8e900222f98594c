import subprocess
import sys
from pathlib import Path

from ktransformer.config import Config, read_settings

RECIPE = Path(__file__).parents[2] / "training" / "translation"


def test_the_configuration_is_read_and_changes_the_defaults():
    config = Config().replace(read_settings(RECIPE / "multi30k.yaml"))
    assert config.data.batch_tokens == 2048
    assert config != Config()


def test_the_report_draws_the_losses_and_shows_translations(run_folder, data_folder, tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            str(RECIPE / "report.py"),
            str(run_folder),
            "--source",
            str(data_folder / "test.source"),
            "--reference",
            str(data_folder / "test.target"),
            "--output",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert len(result.stdout.splitlines()) == 12
