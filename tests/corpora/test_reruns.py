"""A corpus that was begun goes on where it was, with the same model and options alone."""

import functools
import json
import os
import resource
import subprocess

import pytest

from ktransformer.corpora import translate_corpus
from ktransformer.corpora.report import Report
from ktransformer.corpora.workspace import Workspace
from ktransformer.errors import InputError
from tests.corpora.small_corpus import (
    corpus_command,
    files_of,
    kill,
    number_lines,
    parts_of,
    wait_for,
    write_lines,
)


@pytest.fixture
def inputs(tmp_path):
    lines = number_lines(400)
    halves = (lines[:250], lines[250:])
    return [write_lines(tmp_path / f"{i}.txt", half) for i, half in enumerate(halves)]


def translate(model, inputs, output, **options):
    """Translates in small shards; returns the texts that were done before and all of them."""
    seen = []
    report = translate_corpus(
        model, inputs, output, shard_bytes=1000, on_progress=seen.append, **options
    )
    return seen[0].earlier, report.texts


def test_a_finished_corpus_is_not_translated_again(lite_file, inputs, tmp_path):
    output = tmp_path / "out"
    assert translate(lite_file, inputs, output) == (0, 400)
    times = [(output / path.name).stat().st_mtime_ns for path in inputs]
    assert translate(lite_file, inputs, output) == (400, 400)
    assert [(output / path.name).stat().st_mtime_ns for path in inputs] == times
    (output / "1.txt").unlink()
    assert translate(lite_file, inputs, output) == (250, 400)
    assert len(files_of(output)["1.txt"].splitlines()) == 150


def test_only_what_has_changed_is_translated_again(lite_file, inputs, tmp_path):
    output = tmp_path / "out"
    translate(lite_file, inputs, output)
    more = write_lines(tmp_path / "more.txt", ["one two"])
    with inputs[1].open("a") as file:
        file.write("nine\n")
    assert translate(lite_file, [*inputs, more], output) == (250, 402)
    assert files_of(output)["1.txt"].endswith(b"\n9\n")
    assert files_of(output)["more.txt"] == b"12\n"


@pytest.mark.long
def test_a_killed_command_goes_on_and_keeps_its_parts(lite_file, tmp_path):
    source = write_lines(tmp_path / "a.txt", number_lines(40_000))
    output = tmp_path / "out"
    line = corpus_command(lite_file, [source], output, "--shard-bytes", 1000)
    before: dict = {}
    for _ in range(2):
        process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        wait_for(functools.partial(_has_parts, output, len(before) + 4), process)
        kill(process)
        after = parts_of(output)
        assert before.items() <= after.items()  # What was done was not written again.
        before = after
    # Of a file that lost its end, the shards that are done are still known.
    write_lines(source, number_lines(40_000)[:600])
    result = subprocess.run(line, capture_output=True, check=True)
    assert b" of 600 lines are there from an earlier run." in result.stderr
    translate(lite_file, [source], tmp_path / "whole")
    assert files_of(output) == files_of(tmp_path / "whole")


def _has_parts(output, count):
    return len(parts_of(output)) >= count


def test_another_model_and_other_options_are_refused(lite_file, run_folder, inputs, tmp_path):
    output = tmp_path / "out"
    translate(lite_file, inputs, output)
    with pytest.raises(InputError, match=r"begun with a model that has the SHA-256 '[0-9a-f]{64}'"):
        translate(run_folder, inputs, output)
    for options in ({"n_best": 2}, {"copy": ["tags"]}, {"format": "jsonl"}):
        with pytest.raises(InputError, match=f"begun with {next(iter(options))} .* name another"):
            translate(lite_file, inputs, output, **options)
    assert translate(lite_file, inputs, output) == (400, 400)


def test_a_part_that_is_not_whole_is_translated_again(lite_file, inputs, tmp_path):
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        translate_corpus(
            lite_file, inputs[:1], output, shard_bytes=1000, on_progress=_interrupt_at(120)
        )
    first, *others = parts_of(output)
    assert others
    os.truncate(first, first.stat().st_size - 5)
    texts = sum(json.loads(path.read_bytes().splitlines()[0])["texts"] for path in others)
    assert translate(lite_file, inputs[:1], output) == (texts, 250)
    translate(lite_file, inputs[:1], tmp_path / "whole")
    assert files_of(output) == files_of(tmp_path / "whole")


_DAMAGED = [
    lambda report: [],
    lambda report: None,
    lambda report: {**report, "more": 1},
    lambda report: {**report, "texts": "1"},
]


def test_a_part_with_a_damaged_header_is_not_done(tmp_path):
    workspace, report = Workspace(tmp_path), Report(texts=1)
    workspace.write_part("ab", report, b"one\n")
    assert workspace.read_report("ab") == report
    (path,) = parts_of(tmp_path)
    header = json.loads(path.read_bytes().splitlines()[0])
    for damaged in ("{", "{}", *(json.dumps(damage(header)) for damage in _DAMAGED)):
        path.write_text(f"{damaged}\none\n")
        assert workspace.read_report("ab") is None


def test_an_output_with_a_damaged_record_is_not_done(tmp_path):
    workspace, report = Workspace(tmp_path), Report(texts=1)
    (tmp_path / "a.txt").write_text("one\n")
    workspace.write_record("a.txt", "/a.txt", "source", report)
    assert workspace.read_record("a.txt", "source") == report
    path = workspace.folder / "files" / "a.txt.json"
    record = json.loads(path.read_bytes())
    reports = [{**record, "report": damage(record["report"])} for damage in _DAMAGED]
    for damaged in ("{", "{}", "[]", "null", *map(json.dumps, reports)):
        path.write_text(damaged)
        assert workspace.read_record("a.txt", "source") is None


def test_an_output_with_a_damaged_record_is_made_again(lite_file, inputs, tmp_path):
    output = tmp_path / "out"
    translate(lite_file, inputs, output)
    expected = files_of(output)
    (output / ".translation" / "files" / "1.txt.json").write_text("{}")
    assert translate(lite_file, inputs, output) == (250, 400)
    assert translate(lite_file, inputs, output) == (400, 400)
    assert files_of(output) == expected


def _interrupt_at(texts):
    def on_progress(progress):
        if progress.texts >= texts:
            raise KeyboardInterrupt

    return on_progress


def test_a_full_disk_leaves_what_is_done(lite_file, inputs, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # A larger file fails so.
    try:
        with pytest.raises(OSError, match="File too large"):
            translate(lite_file, inputs, tmp_path / "out", n_best=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_of(tmp_path / "out") == {}
    translate(lite_file, inputs, tmp_path / "out", n_best=3)
    translate(lite_file, inputs, tmp_path / "whole", n_best=3)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_two_processes_do_not_write_one_output(lite_file, inputs, tmp_path):
    def again(progress):
        with pytest.raises(InputError, match="is being written by another process"):
            translate(lite_file, inputs, tmp_path / "out")

    translate_corpus(lite_file, inputs, tmp_path / "out", on_progress=again)
