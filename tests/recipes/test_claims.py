import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import yaml

pytest.importorskip("babel")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


from ktransformer.layers import DecoderBlock
from ktransformer.models import CausalLanguageModel
from ktransformer.text import END_ID, PAD_ID, START_ID
from tests.run_command import ROOT
from training.claims import experiments, finding, language_model, loop, measure, page, run, tasks
from training.claims.unmasked import NonCausalBlock


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A folder with every experiment's quick measurements, made as they are needed."""
    folder = tmp_path_factory.mktemp("quick")

    def record(name):
        path = folder / "claims" / f"{name}.json"
        if not path.exists():
            measure.measure(name, True, folder / "claims")
        return json.loads(path.read_text())

    record.folder = folder
    return record


@pytest.mark.long
@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_an_experiment_goes_the_whole_way_quickly(name, quick):
    record = quick(name)
    module = experiments.load(name)
    concluded = module.conclude(record["measurements"])
    assert (quick.folder / "claims" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert record["settings"]["seeds"] == list(module.QUICK.seeds)
    for field in ("title", "claim", "measured", "outcome", "explanation", "alt", "reference"):
        assert getattr(concluded, field).strip(), field
    assert not re.search(r"\bnan\b|\binf\b", concluded.outcome)


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_an_experiment_has_a_slug_a_number_and_at_least_three_seeds(name):
    module = experiments.load(name)
    assert name == module.NAME
    assert isinstance(module.SERIAL, bool)
    assert dataclasses.is_dataclass(module.Settings)
    assert module.Settings().seeds[:3] == (1, 2, 3)


def test_the_experiments_are_in_the_order_of_their_numbers():
    numbers = [experiments.load(name).NUMBER for name in experiments.EXPERIMENTS]
    assert numbers == sorted(set(numbers))


def test_the_course_changes_settings_that_its_experiment_has():
    text = (ROOT / "docs" / "claims" / "course.yaml").read_text(encoding="utf-8")
    course = yaml.safe_load(text)
    assert set(course) == set(experiments.EXPERIMENTS)
    for name, entry in course.items():
        fields = {field.name for field in dataclasses.fields(experiments.load(name).Settings)}
        changed = re.findall(r"`(\w+)=", entry["change"])
        assert changed
        assert set(entry["settings"]) | set(changed) <= fields


@pytest.mark.long
def test_the_page_has_a_section_and_a_picture_for_each_measured_claim(quick):
    for name in experiments.EXPERIMENTS:
        quick(name)
    page.write(quick.folder)
    text = (quick.folder / "claims.md").read_text()
    assert text.count("\n## ") == len(experiments.EXPERIMENTS)
    for picture in re.findall(r"\]\((claims/\w+\.png)\)", text):
        assert (quick.folder / picture).is_file()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    assert set(re.findall(r"\]\(#(.*?)\)", text)) == anchors
    assert "--quick" in text


@pytest.mark.long
def test_the_page_alone_keeps_the_measurements_and_draws_again(quick, monkeypatch):
    quick("score_scaling")
    file, picture = (quick.folder / "claims" / f"score_scaling.{end}" for end in ("json", "png"))
    before = file.read_bytes()
    picture.write_bytes(b"")
    arguments = ["run.py", "score_scaling", "--page-only", "--output", str(quick.folder)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert run.main() == 0
    assert file.read_bytes() == before
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_a_failing_experiment_is_one_sentence_and_keeps_its_old_finding(
    quick, monkeypatch, capfd, tmp_path
):
    quick("score_scaling")
    file = quick.folder / "claims" / "score_scaling.json"
    before = file.read_bytes()
    failing = tmp_path / "failing.py"
    failing.write_text("raise ArithmeticError('The loss is not a number.')")
    monkeypatch.setattr(run, "MEASURE", (str(failing),))
    arguments = ["run.py", "score_scaling", "--output", str(quick.folder)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert run.main() == 1
    (sentence,) = [line for line in capfd.readouterr().err.splitlines() if "claims:" in line]
    assert sentence == (
        "claims: score_scaling failed and its earlier finding is kept: "
        "ArithmeticError: The loss is not a number."
    )
    assert file.read_bytes() == before
    assert "Dividing the scores" in (quick.folder / "claims.md").read_text()


def test_two_run_at_a_time_and_every_end_is_reported(monkeypatch, tmp_path):
    recorder = tmp_path / "recorder.py"
    recorder.write_text(
        "import pathlib, sys, time\n"
        "folder = pathlib.Path(sys.argv[3])\n"
        "(folder / f'{sys.argv[1]}.running').touch()\n"
        "time.sleep(0.5)\n"
        "running = len(list(folder.glob('*.running')))\n"
        "(folder / f'{sys.argv[1]}.running').unlink()\n"
        "(folder / f'{sys.argv[1]}.seen').write_text(str(running))\n"
    )
    monkeypatch.setattr(run, "MEASURE", (str(recorder),))
    for at_a_time in (1, 2):
        ended = list(run.run_processes("abc", False, tmp_path, at_a_time))
        assert sorted(ended) == [("a", None), ("b", None), ("c", None)]
        seen = {int(path.read_text()) for path in tmp_path.glob("*.seen")}
        assert max(seen) == at_a_time


def test_an_interrupt_ends_the_experiments_and_exits_with_130(monkeypatch, capfd, tmp_path):
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[3], sys.argv[1] + '.pid').write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(run, "MEASURE", (str(sleeper),))
    arguments = ["run.py", "residuals", "score_scaling", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)

    def interrupt():
        while sum(path.stat().st_size > 0 for path in tmp_path.glob("*.pid")) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert run.main() == 130
    assert capfd.readouterr().err.splitlines()[-1] == "claims: Interrupted."
    for path in tmp_path.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_an_unknown_experiment_is_one_sentence(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["run.py", "gravity"])
    assert run.main() == 2
    assert "no experiment 'gravity'" in capfd.readouterr().err


@pytest.mark.long
def test_one_experiment_runs_alone_in_a_process_with_one_thread(tmp_path):
    code = "import os, training.claims.measure; print(os.environ['TF_NUM_INTRAOP_THREADS'])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "1\n"


@pytest.mark.parametrize(
    ("verdict", "condition", "argument"),
    [
        ("proved", "", "verdict"),
        ("holds", "it rains", "condition"),
        ("holds only when", "", "condition"),
    ],
)
def test_a_finding_has_a_known_verdict_and_a_condition_where_one_belongs(
    verdict, condition, argument
):
    with pytest.raises(ValueError, match=f"^{argument} .*verdict='{verdict}'"):
        finding.Finding("t", "c", "m", "o", verdict, condition, "e", "a", "r")


def test_a_restarted_trainer_repeats_itself_and_does_what_fit_does():
    task = tasks.sentences(16)
    split = task.train.rows(slice(0, 50))

    def make_model():
        return language_model.LanguageModel(
            task.tokenizer.vocabulary_size, num_layers=1, d_model=8, num_heads=2
        )

    trainer = loop.Trainer(make_model, split, batch_size=4)
    first = trainer.fit(steps=3, learning_rate=0.1, seed=1)
    other = trainer.fit(steps=3, learning_rate=0.1, seed=2)
    again = trainer.fit(steps=3, learning_rate=0.1, seed=1)
    keras.utils.set_random_seed(1)
    model = make_model()
    plain = loop.fit(model, split, steps=3, batch_size=4, learning_rate=0.1, seed=1)
    assert first == again
    assert first != other
    assert plain == pytest.approx(first, rel=1e-5)
    assert loop.evaluate(model, split).loss == pytest.approx(trainer.evaluate(split).loss, rel=1e-4)


@pytest.mark.parametrize(("norm_first", "parameters"), [(False, 33_088), (True, 33_152)])
def test_the_language_model_is_the_causal_one_of_the_library(norm_first, parameters):
    model = language_model.LanguageModel(500, num_layers=2, d_model=32, norm_first=norm_first)
    model.build()
    assert isinstance(model, CausalLanguageModel)
    # 500 * 32, and 2 blocks of 4 * 32^2 + 4 * 32 + 2 * 32 * 64 + 64 + 32 + 4 * 32.
    assert model.count_params() == parameters


@pytest.mark.parametrize("block", [DecoderBlock, NonCausalBlock])
def test_a_language_model_has_the_blocks_of_its_class(block):
    model = language_model.LanguageModel(9, num_layers=1, d_model=8, num_heads=2, block=block)
    before, after = model(np.array([[5, 6, 7], [5, 6, 8]]))
    sees_later_tokens = not np.allclose(before[:2], after[:2], atol=1e-5)
    assert sees_later_tokens == (block is NonCausalBlock)


def test_a_model_is_judged_on_real_tokens_alone():
    class Certain(keras.Model):
        """Is sure of token 5 everywhere."""

        def call(self, inputs, training=None):
            return 20.0 * keras.ops.one_hot(keras.ops.zeros_like(inputs) + 5, 8)

    labels = np.array([[5, 5, 0], [5, 6, 5]], "int32")
    found = loop.evaluate(Certain(), tasks.Split(labels, labels))
    assert found.accuracy == pytest.approx(4 / 5)
    assert found.exact == pytest.approx(1 / 2)
    assert found.loss == pytest.approx(20 / 5, abs=1e-4)


def test_token_frequencies_alone_give_the_entropy_of_equal_tokens():
    ids = np.array([[1, 2, 3, 4, 0]], "int32")
    split = tasks.Split(ids, ids)
    # A count of 1 each, and 1 more each, of which id 0 has one: 2 of 9.
    assert loop.unigram_loss(split, split, 5) == pytest.approx(np.log(9 / 2))


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 99.0])
def test_a_diverged_loss_counts_as_guessing_evenly(loss):
    assert loop.capped(loss, 500) == pytest.approx(np.log(500))
    assert loop.capped(2.0, 500) == 2.0


def test_a_causal_example_is_shifted_by_one_and_padded():
    labels = np.array([[5, 6, END_ID, PAD_ID], [7, 8, 9, 5]], "int32")
    expected = [[START_ID, 5, 6, PAD_ID], [START_ID, 7, 8, 9]]
    np.testing.assert_array_equal(tasks.shifted(labels), expected)


def test_sentences_are_prose_and_no_example_is_in_both_parts():
    task = tasks.sentences(32)
    assert len(task.train) > 2000
    assert len(task.validation) >= 300
    lengths = (task.train.labels != PAD_ID).sum(axis=1)
    assert lengths.min() >= 8
    assert set(map(tuple, task.train.labels)).isdisjoint(map(tuple, task.validation.labels))
    assert not any("::=" in line or ">>>" in line for line in tasks.prose())


def test_the_labels_of_the_dates_are_iso_dates():
    task = tasks.dates(train=200, validation=50)
    assert len(task.train) == 200
    assert len(task.validation) == 50
    assert task.train.inputs["source"].shape[0] == 200
    decoded = task.tokenizer.decode(task.validation.labels)
    assert all(re.fullmatch(rb"\d{4}-\d\d-\d\d", text) for text in decoded.numpy())
