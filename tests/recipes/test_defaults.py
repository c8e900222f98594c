"""The program that measures the settings that are chosen from the text."""

import json

from tests.run_command import program

SETTINGS = {
    "vocabulary_size": 692,
    "batch_tokens": 512,
    "epochs": 100,
    "optimizer": "muon",
    "schedule": "cosine",
    "warmup_steps": 310,
}


def run(*arguments):
    return program("training.defaults.measure", *arguments)


def test_what_was_measured_is_in_the_table(tmp_path):
    record = {
        "settings": SETTINGS,
        "updates": "3,100",
        "minutes": 7.6,
        "scores": {"bleu": 97.5, "chrf": 98.25, "exact_match": 0.95},
    }
    (tmp_path / "dates-1000.json").write_text(json.dumps(record))
    done = run("--output", tmp_path, "--only", "dates-1000")
    assert done.returncode == 0
    chosen = ", ".join(f"{name}={value}" for name, value in SETTINGS.items())
    assert done.stdout.splitlines()[2] == (
        f"| dates-1000 | {chosen} | 3,100 | 8 | 97.50 | 98.25 | 0.950 |"
    )


def test_an_unknown_text_is_refused(tmp_path):
    done = run("--output", tmp_path / "all", "--only", "dates-7")
    assert (done.returncode, done.stdout) == (2, "")
    assert "dates-7" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "all").exists()


def test_a_folder_without_the_text_is_refused(tmp_path):
    done = run("--output", tmp_path / "all", "--multi30k", tmp_path, "--only", "multi30k-1000")
    assert done.returncode == 2
    assert "train.*en" in done.stderr
