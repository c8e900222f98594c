"""The time that the tests may take, for machines that are slow."""

import os
import subprocess
import sys

from tests.run_command import ROOT


def test_no_test_is_begun_after_the_minutes_it_may_take():
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "tests/test_lazy.py"],
        env={**os.environ, "KTRANSFORMER_TEST_MINUTES": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "KTRANSFORMER_TEST_MINUTES are over" in result.stdout
    assert "passed" not in result.stdout
