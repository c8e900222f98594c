"""The programs for a GPU, with small sizes on the CPU, and TensorFlow out of reach."""

import json
import os
import subprocess
import sys

import pytest

from ktransformer.engines import load_engine
from tests.run_command import ROOT, program
from tests.small_run import number_pairs

# A finder that refuses TensorFlow, in the process that trains.
WITHOUT = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(('tensorflow', 'tensorflow_text'))); "
    "sys.argv[0] = 'run'; runpy.run_module('training.gpu.run', run_name='__main__')"
)
SETTINGS = (
    "data:\n  vocabulary_size: 40\n  batch_tokens: 256\n  bucket_step: 8\ntraining:\n  epochs: 1\n"
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    for part, count, seed in (("train", 400, 1), ("val", 30, 2)):
        for language, lines in zip(
            ("en", "de"), zip(*number_pairs(count, seed), strict=True), strict=True
        ):
            (folder / f"{part}.{language}").write_text("\n".join(lines) + "\n")
    (folder / "small.yaml").write_text(SETTINGS)
    options = ["--no-packages", "--batches", 2, "--batch-tokens", 64, "--sizes", "tiny"]
    options += ["--config", folder / "small.yaml", "--output", folder / "packed"]
    result = program("training.gpu.pack", folder, *options)
    assert result.returncode == 0, result.stderr
    return folder / "packed"


@pytest.mark.long
def test_it_measures_compares_and_trains_without_tensorflow(packed, tmp_path):
    arguments = [packed, "--output", tmp_path, "--seeds", 1, "--rounds", 1]
    arguments += ["--precisions", "mixed_bfloat16"]
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        cwd=packed,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["logits"]["holds"]
    assert set(results["speed"]) == {"tiny mixed_bfloat16"}
    for found in results["speed"].values():
        assert found["ours"]["tokens_per_second"] > 0
        fused = found["ours, fused attention"]["loss"]
        assert fused == pytest.approx(found["ours"]["loss"], rel=1e-2)
    assert results["recipes"]["teacher-1"]["parameters"] > 0
    assert len(load_engine(tmp_path / "teacher-1").translate(["four zero two"])) == 1
