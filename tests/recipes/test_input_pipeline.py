import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "training" / "benchmark" / "input_pipeline.py"


@pytest.mark.long
def test_the_input_pipeline_is_measured_phase_by_phase(tmp_path):
    options = ("--pairs", "2500", "--files", "2", "--shard-pairs", "1000", "--updates", "0")
    result = subprocess.run(
        [sys.executable, PROGRAM, "--folder", tmp_path / "text", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.match(
        r"2,500 pairs, [\d,]+ tokens .*, 3 shards of at most 1,000 pairs", result.stdout
    )
    rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| e")]
    assert [len(row) for row in rows] == [4, 4, 11, 11]  # Encoding and an epoch, in both tables.
    assert all(re.search(r"\d", cell) for row in rows for cell in row[1:])
