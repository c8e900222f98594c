"""`ktransformer translate`."""

import json
import re
import subprocess
import sys

import pytest

from ktransformer.engines import ModelEngine, Translation, load_engine
from tests.run_command import command, refusal


def test_translate_gives_a_line_for_a_line_in_order(run_folder, translate):
    status, output, progress = translate("four zero two\n\nnine\none one", run_folder)
    assert status == 0
    assert output.splitlines() == ["402", "", "9", "11"]
    assert re.search(r"4 lines translated, [\d.]+ a second\.\n$", progress)


def test_translate_answers_a_line_before_the_next_one_comes(run_folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "ktransformer", "translate", str(run_folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    for text, translation in ((b"three\n", b"3\n"), (b"nine\n", b"9\n")):
        process.stdin.write(text)
        process.stdin.flush()
        assert process.stdout.readline() == translation
    process.stdin.close()
    assert process.wait(60) == 0


def test_translate_prints_n_best_lines_for_each_line(run_folder, translate):
    text = "four zero two\nnine\n"
    _, output, _ = translate(text, run_folder, "--n-best", 2, "--beam-size", 4)
    lines = output.splitlines()
    assert len(lines) == 4
    assert (lines[0], lines[2]) == ("402", "9")
    assert lines[0] != lines[1]


def test_translate_reports_lines_that_are_cut(run_folder, translate, caplog):
    _, output, _ = translate("one " * 40 + "\ntwo\n", run_folder)
    assert re.search("1 texts .*24 tokens", caplog.text)
    assert output.splitlines()[1] == "2"


@pytest.mark.parametrize("form", ["run_folder", "saved_model", "lite_file"])
def test_translate_warns_of_characters_that_the_tokenizer_has_never_seen(
    form, translate, caplog, request
):
    status, output, _ = translate("seven\nSEVEN,\n", request.getfixturevalue(form))
    assert status == 0
    assert output.splitlines()[0] == "7"
    (warning,) = [line for line in caplog.messages if "never seen" in line]
    assert warning.startswith("1 texts ")
    assert "6 in all: 'E' (2), 'S' (1), 'V' (1), 'N' (1), ',' (1)" in warning


def test_translate_warns_of_no_character_where_all_are_known(run_folder, translate, caplog):
    translate("seven\nnine\t\uff4fne\n", run_folder)
    assert "never seen" not in caplog.text


def test_translate_keeps_a_line_a_line_whatever_the_model_says(run_folder, translate, monkeypatch):
    said = Translation(["a\nb\r\nc"], [0.0], False)
    monkeypatch.setattr(
        ModelEngine, "translate_n_best", lambda self, texts, n_best: [said] * len(texts)
    )
    _, output, _ = translate("one\ntwo\n", run_folder)
    assert output == "a b  c\na b  c\n"


def test_translate_stops_quietly_when_its_reader_has_seen_enough(run_folder):
    line = f"{sys.executable} -m ktransformer translate {run_folder}"
    result = subprocess.run(
        f"yes one | head -n 3000 | {line} | head -n 1",
        shell=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert result.stdout == b"1\n"
    assert b"Traceback" not in result.stderr


def test_translate_names_the_line_that_is_not_utf8(run_folder, translate):
    status, _, errors = translate(b"one\n\xff\xfe\n", run_folder)
    assert status == 2
    assert "ktransformer: standard input, line 2" in errors


@pytest.mark.parametrize("name", ["model.json", "tokenizer.model", "model.keras"])
def test_a_run_that_lacks_a_file_is_refused(name, run_copy, capsys):
    (run_copy / name).unlink()
    assert name in refusal(capsys, "translate", run_copy)


@pytest.mark.parametrize("name", ["model.json", "tokenizer.model", "model.keras"])
def test_a_run_with_a_damaged_file_is_refused(name, run_copy, capsys):
    (run_copy / name).write_bytes(b"\x00 not what it was")
    refusal(capsys, "translate", run_copy)


def test_a_run_of_a_newer_version_is_refused(run_copy, capsys):
    description = json.loads((run_copy / "model.json").read_text())
    description |= {"format_version": 999, "ktransformer": "99.0"}
    (run_copy / "model.json").write_text(json.dumps(description))
    assert "99.0" in refusal(capsys, "translate", run_copy)


@pytest.mark.parametrize("fixture", ["saved_model", "lite_file"])
def test_translate_gives_the_same_with_an_export(fixture, request, run_folder, translate):
    text = "four zero two\n\nnine\n" + "one " * 40 + "\n  odd é\t\n"
    expected = translate(text, run_folder, "--n-best", 2)
    status, output, _ = translate(text, request.getfixturevalue(fixture), "--n-best", 2)
    assert (status, output) == (0, expected[1])


@pytest.mark.long
def test_a_number_of_threads_is_taken(lite_file):
    result = command("translate", lite_file, "--threads", 1, input=b"nine\n")
    assert (result.returncode, result.stdout) == (0, b"9\n")


@pytest.mark.parametrize("content", [b"", b"neither this nor that", b"\0" * 5000])
def test_a_file_that_is_no_model_is_refused(content, tmp_path, capsys):
    (tmp_path / "model.tflite").write_bytes(content)
    assert "model.tflite" in refusal(capsys, "translate", tmp_path / "model.tflite")


def test_a_truncated_model_is_refused(lite_file, tmp_path, capsys):
    (tmp_path / "model.tflite").write_bytes(lite_file.read_bytes()[:-1000])
    assert "model.tflite" in refusal(capsys, "translate", tmp_path / "model.tflite")


def test_an_export_keeps_its_beam_size_and_length_penalty(lite_file, capsys):
    message = refusal(capsys, "translate", lite_file, "--beam-size", 5)
    assert re.search("beam size.* 3.*5", message)
    message = refusal(capsys, "translate", lite_file, "--length-penalty", 0.5)
    assert re.search("length penalty.* 1.0.*0.5", message)


def test_steering_takes_an_export_with_the_signature(saved_model, translate):
    status, output, errors = translate("nine\n", saved_model, "--prefix", "9")
    assert (status, output) == (2, "")
    assert "--signatures serving_default controlled" in errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--top-k", 3], r"top_k.*temperature"),
        (["--repetition-penalty", 0], r"repetition_penalty.*above 0.*0"),
        (["--prefix", "9", "--n-best", 9], r"n_best.*3.*9"),
    ],
)
def test_steering_out_of_range_is_one_sentence(run_folder, translate, options, words):
    status, output, errors = translate("nine\n", run_folder, *options)
    assert (status, output) == (2, "")
    assert re.search(words, errors)
    assert "Traceback" not in errors


@pytest.mark.long
def test_translate_begins_with_the_prefix(run_folder, translate):
    _, output, _ = translate("four zero two\nnine\n", run_folder, "--prefix", "4 ")
    assert [line[:2] for line in output.splitlines()] == ["4 ", "4 "]


def test_translate_prints_a_document_with_all_that_is_between_its_sentences(lite_file, translate):
    status, found, _ = translate("one two  \r\n\r\n\tthree \n\n", lite_file, "--document")
    assert (status, found) == (0, "12  \r\n\r\n\t3 \n\n")


def test_translate_reports_sentences_that_are_broken(lite_file, translate, caplog):
    status, found, _ = translate("one two three " * 20, lite_file, "--document")
    assert status == 0
    assert found.endswith(" ")
    assert re.search("24 tokens.*4 parts", caplog.text)


def test_a_document_has_one_translation(run_folder, translate):
    status, _, message = translate("one", run_folder, "--document", "--n-best", "2")
    assert status == 2
    assert re.search("--n-best.*2", message)


def test_a_document_has_batches_of_its_own(run_folder, translate):
    status, found, message = translate("one", run_folder, "--document", "--batch-size", 32)
    assert (status, found) == (2, "")
    assert "--batch-size does not go with --document" in message


def test_each_line_is_translated_sentence_by_sentence(lite_file, translate, caplog):
    text = "one two. three!\n\n  four\t\none " + "two three " * 20 + "\n"
    status, found, _ = translate(text, lite_file, "--sentences", "--batch-size", 2)
    engine = load_engine(lite_file)
    expected = [each.text for each in engine.translate_document(text.splitlines())]
    assert (status, found.splitlines()) == (0, expected)
    assert re.search("24 tokens.* parts", caplog.text)
    assert "hold several sentences" not in caplog.text


def test_lines_of_several_sentences_are_warned_of(run_folder, translate, caplog):
    translate("one. two. three\nfour\nfive! Six\nseven.\n", run_folder)
    (warning,) = [line for line in caplog.messages if "several sentences" in line]
    assert warning.startswith("2 lines ")
    assert "--sentences" in warning


def test_lines_of_one_sentence_give_no_such_warning(run_folder, translate, caplog):
    translate("one two.\nfour 3.5\n\n", run_folder)
    assert "several sentences" not in caplog.text


def test_documents_take_a_terminology(run_folder, translate, tmp_path):
    (tmp_path / "terms.tsv").write_text("two\tseven\n")
    options = ["--sentences", "--terms", tmp_path / "terms.tsv"]
    status, found, _ = translate("one. two\nnine\n", run_folder, *options)
    assert (status, found.count("\n"), "seven" in found) == (0, 2, True)
    assert found.endswith("\n9\n")


@pytest.mark.long
@pytest.mark.parametrize("mode", ["--sentences", "--document"])
def test_documents_take_options_of_the_search(mode, run_folder, translate):
    status, found, _ = translate("nine\n", run_folder, mode, "--suppress", "9")
    assert (status, "9" in found, found[-1:]) == (0, False, "\n")


@pytest.mark.parametrize("mode", ["--sentences", "--document"])
@pytest.mark.parametrize(
    "options", [["--alignment"], ["--token-scores"], ["--prefix", "9"], ["--alternatives"]]
)
def test_options_of_one_sentence_do_not_go_with_documents(mode, options, run_folder, translate):
    status, found, errors = translate("one\n", run_folder, mode, *options)
    assert (status, found) == (2, "")
    assert f"ktransformer: {options[0]} does not go with {mode}" in errors
