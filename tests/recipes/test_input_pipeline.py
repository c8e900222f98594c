import re

import pytest

from tests.run_command import program


@pytest.mark.long
def test_the_input_pipeline_is_measured_phase_by_phase(tmp_path):
    options = ("--pairs", "2500", "--files", "2", "--shard-pairs", "1000", "--updates", "0")
    result = program("training.benchmark.input_pipeline", "--folder", tmp_path / "text", *options)
    assert result.returncode == 0, result.stderr
    assert re.match(
        r"2,500 pairs, [\d,]+ tokens .*, 3 shards of at most 1,000 pairs", result.stdout
    )
    rows = [line.split(" | ") for line in result.stdout.splitlines() if line.startswith("| e")]
    assert [len(row) for row in rows] == [4, 4, 11, 11]  # Encoding and an epoch, in both tables.
    assert all(re.search(r"\d", cell) for row in rows for cell in row[1:])
