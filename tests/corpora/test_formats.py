"""The formats of corpora, what comes out of them, and what is refused."""

import gzip
import io
import json
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ktransformer.corpora import translate_corpus
from ktransformer.corpora.job import Job
from ktransformer.corpora.table import ParquetColumn
from ktransformer.errors import InputError
from tests.corpora.small_corpus import files_of, number_lines, parts_of, write_lines
from tests.run_command import command, refusal

LINES = ["four zero two", "", "nine", "one " * 60, "qqq é two"]


@pytest.fixture(scope="module")
def expected(run_folder):
    """What the command gives for `LINES` on stdin."""
    result = command("translate", run_folder, input="\n".join(LINES).encode())
    return result.stdout.decode().splitlines()


def test_text_comes_out_as_the_command_gives_it(lite_file, tmp_path, expected):
    first = tmp_path / "first.txt"
    first.write_text("\ufeff" + "\r\n".join(LINES), encoding="utf-8")
    empty = write_lines(tmp_path / "empty.txt", [])
    report = translate_corpus(lite_file, [first, empty], tmp_path / "out", shard_bytes=20)
    text = "".join(f"{line}\n" for line in expected).encode()
    assert files_of(tmp_path / "out") == {"empty.txt": b"", "first.txt": text}
    assert (report.texts, report.truncated, report.unknown_texts) == (5, 1, 1)
    assert report.unknown == {"q": 3, "é": 1}
    assert parts_of(tmp_path / "out") == {}


def test_a_gzip_comes_out_gzipped(lite_file, tmp_path, expected):
    content = "".join(f"{line}\n" for line in LINES).encode()
    (tmp_path / "text.gz").write_bytes(gzip.compress(content))
    (tmp_path / "empty.gz").write_bytes(gzip.compress(b""))
    # Equal shards of a plain file have parts of their own.
    (tmp_path / "text").write_bytes(content)
    inputs = [tmp_path / name for name in ("text.gz", "empty.gz", "text")]
    translate_corpus(lite_file, inputs, tmp_path / "out", shard_bytes=20)
    with gzip.open(tmp_path / "out" / "text.gz") as file:
        assert file.read().decode().splitlines() == expected
    assert (tmp_path / "out" / "text").read_text(encoding="utf-8").splitlines() == expected
    assert gzip.decompress((tmp_path / "out" / "empty.gz").read_bytes()) == b""


def test_json_lines_keep_all_they_have(lite_file, tmp_path, expected):
    texts = [json.dumps(line) for line in LINES]
    lines = [f'{{"id": 1e0{i},"text" :{text}, "é": [1, {{}}] }} ' for i, text in enumerate(texts)]
    source = write_lines(tmp_path / "text.jsonl", lines)
    translate_corpus(lite_file, [source], tmp_path / "out", shard_bytes=20)
    found = (tmp_path / "out" / "text.jsonl").read_text(encoding="utf-8").splitlines()
    for line, before, translation in zip(found, lines, expected, strict=True):
        assert line.startswith(before.removesuffix(" } "))
        assert json.loads(line) == {**json.loads(before), "translation": translation}


def test_n_best_is_a_line_each_or_a_list(lite_file, tmp_path):
    plain = write_lines(tmp_path / "a.txt", ["four zero two", "nine"])
    translate_corpus(lite_file, [plain], tmp_path / "text", n_best=2)
    lines = (tmp_path / "text" / "a.txt").read_text().splitlines()
    assert len(lines) == 4
    assert lines[::2] == ["402", "9"]
    source = write_lines(tmp_path / "a.jsonl", ['{"q": "four zero two"}', '{"q": "nine"}'])
    names = {"field": "q", "output_field": "best"}
    translate_corpus(lite_file, [source], tmp_path / "json", n_best=2, **names)
    found = (tmp_path / "json" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["best"] for line in found] == [lines[:2], lines[2:]]


def test_parquet_keeps_its_columns_row_groups_and_metadata(lite_file, tmp_path):
    lines = number_lines(25)
    table = pa.table({"id": range(25), "text": lines, "more": [[1.5]] * 25})
    table = table.replace_schema_metadata({"made": "here"})
    source = tmp_path / "a.parquet"
    pq.write_table(table, source, row_group_size=10, compression="zstd")
    translate_corpus(lite_file, [source], tmp_path / "out", shard_bytes=60)
    file = pq.ParquetFile(tmp_path / "out" / "a.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [10, 10, 5]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    found = file.read()
    assert found.drop_columns("translation").equals(pq.read_table(source), check_metadata=True)
    plain = write_lines(tmp_path / "a.txt", lines)
    translate_corpus(lite_file, [plain], tmp_path / "text")
    expected = (tmp_path / "text" / "a.txt").read_text().splitlines()
    assert found["translation"].to_pylist() == expected


def test_a_full_disk_is_not_blamed_on_the_parquet_file(tmp_path):
    source = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": number_lines(25)}), source)
    job = Job("model", format="parquet", field="text", output_field="translation")
    part = io.BytesIO(json.dumps(["1"] * 25).encode())
    with (
        open("/dev/full", "wb", buffering=0) as output,
        pytest.raises(OSError, match="No space left"),
    ):
        ParquetColumn(job).join(str(source), iter([part]), output)


def test_a_parquet_file_without_rows_comes_out_so(lite_file, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    translate_corpus(lite_file, [tmp_path / "a.parquet"], tmp_path / "out", n_best=2)
    found = pq.read_table(tmp_path / "out" / "a.parquet")
    assert found.column_names == ["text", "translation"]
    assert found.num_rows == 0


def test_a_document_comes_out_as_the_command_gives_it(lite_file, tmp_path):
    content = b"One two. Nine.\r\n\r\n  Four\xff five\n\0six" * 20
    (tmp_path / "letter.txt").write_bytes(content)
    expected = command("translate", lite_file, "--document", input=content).stdout
    translate_corpus(
        lite_file, [tmp_path / "letter.txt"], tmp_path / "out", document=True, shard_bytes=64
    )
    assert (tmp_path / "out" / "letter.txt").read_bytes() == expected


BROKEN = {
    "a.txt": (b"one\n\xff\n", r"a\.txt, line 2, is not valid UTF-8: byte 1 "),
    "b.txt": (b"one\no\0ne\n", r"b\.txt, line 2, must be text in UTF-8; got a NUL"),
    "c.gz": (gzip.compress(b"one\n" * 9999)[:-20], r"c\.gz is not a whole gzip file: "),
    "d.gz": (b"one\n", r"d\.gz is not a whole gzip file: "),
    "e.jsonl": (b'{"text": "one"}\n{"q": 1, "r": 2}\n', r"line 2, has no field 'text', only q, r"),
    "f.jsonl": (b'{"text": "one"}\n{"text": "on', r"line 2, is no JSON object: "),
    "g.jsonl": (b'["text"]\n', r"line 1, is no JSON object: "),
    "h.jsonl": (b'{"text": null}\n', r"line 1: field 'text' must be a string; got None"),
    "i.jsonl": (b'{"text": "\\ud800"}\n', r"line 1: field 'text' must be UTF-8; got "),
    "j.jsonl": (b'{"text": "", "translation": 1}', r"has a field 'translation' already"),
    "k.parquet": (b"PAR1 not so", r"k\.parquet is not a whole Parquet file: "),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_input_is_named_before_anything_is_translated(name, lite_file, tmp_path):
    content, message = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        translate_corpus(lite_file, [tmp_path / name], tmp_path / "out", shard_bytes=4)
    assert "\n" not in str(error.value)
    assert files_of(tmp_path / "out") == {}
    assert parts_of(tmp_path / "out") == {}


def test_a_column_that_is_not_all_strings_is_refused(lite_file, tmp_path):
    path, output = tmp_path / "a.parquet", tmp_path / "out"
    for column, message in (
        ({"q": ["one"]}, "has no column 'text', only q"),
        ({"text": [1]}, "column 'text' must be of strings; it is of int64"),
        ({"text": ["one", None]}, "row 2: column 'text' must be a string; got null"),
        ({"text": ["one"], "translation": ["1"]}, "has a column 'translation' already"),
    ):
        pq.write_table(pa.table(column), path)
        with pytest.raises(InputError, match=message):
            translate_corpus(lite_file, [path], output)


def test_a_column_with_a_name_that_is_not_utf8_is_refused(lite_file, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one"], "wxyz": ["q"]}), path)
    path.write_bytes(path.read_bytes().replace(b"wxyz", b"w\xff\xfez"))
    with pytest.raises(InputError, match="has a column whose name is not valid UTF-8"):
        translate_corpus(lite_file, [path], tmp_path / "out")


def test_two_columns_of_the_name_to_translate_are_refused(lite_file, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["one"])] * 2, names=["text", "text"]), path)
    with pytest.raises(InputError, match="has several columns 'text'"):
        translate_corpus(lite_file, [path], tmp_path / "out")


def test_a_column_named_like_a_field_of_another_one_is_translated(lite_file, tmp_path):
    path, output = tmp_path / "a.parquet", tmp_path / "out"
    pq.write_table(pa.table({"a": [{"b": "nine"}], "a.b": ["one"]}), path)
    translate_corpus(lite_file, [path], output, field="a.b")
    assert pq.read_table(output / "a.parquet").column("translation").to_pylist() == ["1"]


def test_names_of_files_need_not_be_utf8(lite_file, tmp_path):
    odd = os.fsdecode(b"\xff")
    model, source = tmp_path / f"{odd}.tflite", write_lines(tmp_path / f"{odd}.txt", ["nine"])
    model.symlink_to(lite_file)
    for _ in range(2):  # The second call reads what the first one wrote.
        translate_corpus(model, [source], tmp_path / "out")
        assert files_of(tmp_path / "out") == {f"{odd}.txt": b"9\n"}


def test_a_name_of_a_field_that_is_not_utf8_is_refused(lite_file, tmp_path):
    source = write_lines(tmp_path / "a.jsonl", ['{"text": "one"}'])
    for name in ("field", "output_field"):
        with pytest.raises(InputError, match=f"^{name} must be UTF-8"):
            translate_corpus(lite_file, [source], tmp_path / "out", **{name: os.fsdecode(b"q\xff")})


def test_an_output_in_the_folder_of_the_model_is_refused(run_folder, tmp_path):
    source, output = write_lines(tmp_path / "a.txt", ["one"]), run_folder / "out"
    with pytest.raises(InputError, match="the model; name another folder"):
        translate_corpus(run_folder, [source], output)
    assert not output.exists()


def test_the_command_says_how_far_it_is_and_what_it_cut(lite_file, tmp_path, caplog, capsys):
    from ktransformer.cli import main

    source = write_lines(tmp_path / "a.txt", LINES)
    line = ["translate", lite_file, "--input", source, "--output", tmp_path / "out"]
    assert main(list(map(str, line))) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(r"5 lines translated, [\d.]+ a second\.\n$", captured.err)
    assert "1 texts were cut" in caplog.text
    assert "1 texts hold characters that the tokenizer has never seen" in caplog.text


def test_options_that_do_not_go_together_are_refused(lite_file, tmp_path, capsys):
    source = write_lines(tmp_path / "a.txt", ["one"])
    other = write_lines(tmp_path / "b" / "a.txt", ["one"])
    jsonl = write_lines(tmp_path / "a.jsonl", ['{"text": "one"}'])
    files = ["--input", source, "--output", tmp_path / "out"]
    for more, message in (
        (["--ray"], "--ray goes with --input"),
        (["--output", tmp_path], "--output goes with --input"),
        (["--input", source], "--input takes --output"),
        ([*files, "--workers", 2], "--workers goes with --ray"),
        ([*files, "--alignment"], "--alignment does not go with --input"),
        ([*files, "--field", "q"], "field goes with jsonl and parquet"),
        ([*files, "--document", "--n-best", 2], "--n-best must be 1 with --document"),
        ([*files, "--n-best", 9], "n_best must be .* at most the beam size, 3; got 9"),
        (["--input", source, other, "--output", tmp_path / "out"], "have one name"),
        (["--input", source, jsonl, "--output", tmp_path / "out"], "must have one format"),
        (["--input", source, "--output", tmp_path], "lies in .* where the output"),
        (["--input", source, "--output", tmp_path / "b"], "is not empty and holds no translation"),
        (["--input", tmp_path / "absent", "--output", tmp_path / "out"], "absent is not a file"),
    ):
        assert re.search(message, refusal(capsys, "translate", lite_file, *more))
