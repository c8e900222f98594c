import gzip

import pytest

from ktransformer.errors import InputError
from ktransformer.text import PairFiles, read_lines, read_parallel, read_tsv


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def numbers(count):
    return b"".join(b"line %d of some text\n" % (i * i) for i in range(count))


def test_lines_come_in_order_without_their_ends(tmp_path):
    file = write(tmp_path / "text", "first\n\n  third \nlast")
    assert list(read_lines(file)) == ["first", "", "  third ", "last"]


def test_a_path_may_be_a_string(tmp_path):
    assert list(read_lines(str(write(tmp_path / "text", "a\nb\n")))) == ["a", "b"]


def test_windows_line_ends_are_line_ends(tmp_path):
    assert list(read_lines(write(tmp_path / "text", "a\r\nb\r\n\r\nc"))) == ["a", "b", "", "c"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e", "\r"])
def test_other_separators_stay_inside_a_line(tmp_path, separator):
    file = write(tmp_path / "text", f"one{separator}still one\ntwo\n")
    assert list(read_lines(file)) == [f"one{separator}still one", "two"]


def test_a_gzipped_file_reads_like_a_plain_one(tmp_path):
    file = write(tmp_path / "text.gz", gzip.compress("ä\r\nb\n".encode()))
    assert list(read_lines(file)) == ["ä", "b"]


def test_several_files_follow_each_other(tmp_path):
    first = write(tmp_path / "first", "a\nb")
    second = write(tmp_path / "second.gz", gzip.compress(b"c\n"))
    assert list(read_lines([first, str(second), first])) == ["a", "b", "c", "a", "b"]


def test_an_empty_file_has_no_lines(tmp_path):
    assert list(read_lines(write(tmp_path / "text", ""))) == []


def test_invalid_utf8_is_an_input_error_that_names_file_line_and_byte(tmp_path):
    file = write(tmp_path / "text", b"good\nbad \xff here\n")
    with pytest.raises(InputError, match=rf"{file}, line 2, .*UTF-8: byte 5 .*\(0xff\)"):
        list(read_lines(file))


def test_a_missing_file_is_an_input_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=rf"Cannot read {tmp_path}/none: No such file"):
        list(read_lines(tmp_path / "none"))


def test_a_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=rf"Cannot read {tmp_path}: Is a directory"):
        list(read_lines(tmp_path))


def test_a_gzip_file_that_is_cut_off_is_an_input_error(tmp_path):
    file = write(tmp_path / "text.gz", gzip.compress(numbers(2000))[:-500])
    with pytest.raises(InputError, match=rf"{file}, line \d+: not a whole gzip file"):
        list(read_lines(file))


def test_a_plain_file_named_gz_is_an_input_error(tmp_path):
    file = write(tmp_path / "text.gz", numbers(3))
    with pytest.raises(InputError, match=rf"{file}, line 1: not a whole gzip file"):
        list(read_lines(file))


@pytest.mark.parametrize("damaged", [slice(100, 140), slice(-8, -4)], ids=["data", "checksum"])
def test_a_damaged_gzip_file_is_an_input_error(tmp_path, damaged):
    content = bytearray(gzip.compress(numbers(2000)))
    content[damaged] = bytes(byte ^ 0xFF for byte in content[damaged])
    file = write(tmp_path / "text.gz", bytes(content))
    with pytest.raises(InputError, match=rf"{file}, line \d+: not a whole gzip file"):
        list(read_lines(file))


def test_lines_with_the_same_number_belong_together(tmp_path):
    source = write(tmp_path / "en", "a dog\ntwo dogs\n")
    target = write(tmp_path / "de", "ein Hund\nzwei Hunde\n")
    text = read_parallel(source, target)
    assert text.sources == ["a dog", "two dogs"]
    assert text.targets == ["ein Hund", "zwei Hunde"]
    assert (len(text), text.empty) == (2, 0)


def test_lists_of_different_numbers_of_files_are_paired_as_one(tmp_path):
    source = [write(tmp_path / "1.en", "a\n"), write(tmp_path / "2.en", "b\nc\n")]
    target = [write(tmp_path / "1.de", "A\nB\nC\n")]
    text = read_parallel(source, target)
    assert list(zip(text.sources, text.targets, strict=True)) == [
        ("a", "A"),
        ("b", "B"),
        ("c", "C"),
    ]


def test_pairs_with_an_empty_side_are_left_out_and_counted(tmp_path):
    source = write(tmp_path / "en", "a\n\nc\n \t\ne\n\n")
    target = write(tmp_path / "de", "A\nB\n\u00a0\nD\nE\n\n")
    text = read_parallel(source, target)
    assert (text.sources, text.targets, text.empty) == (["a", "e"], ["A", "E"], 4)


def test_different_numbers_of_lines_are_an_input_error_that_names_both(tmp_path):
    source, target = write(tmp_path / "en", "a\nb\nc\n"), write(tmp_path / "de", "A\nB\n")
    with pytest.raises(InputError, match=rf"got 3 in {source} and 2 in {target}"):
        read_parallel(source, target)


def test_no_pair_with_text_is_an_input_error(tmp_path):
    source, target = write(tmp_path / "en", "a\n\n"), write(tmp_path / "de", "\nB\n")
    with pytest.raises(InputError, match=rf"{source} holds no pair with text on both sides"):
        read_parallel(source, target)


def test_a_tsv_line_is_a_source_and_a_target(tmp_path):
    first = write(tmp_path / "1.tsv", "a dog\tein Hund\r\n\tleer\n")
    second = write(tmp_path / "2.tsv.gz", gzip.compress(b"b\tB\n"))
    text = read_tsv([first, second])
    assert (text.sources, text.targets, text.empty) == (["a dog", "b"], ["ein Hund", "B"], 1)


@pytest.mark.parametrize(("line", "tabs"), [("only a source", 0), ("a\tb\tc", 2), ("", 0)])
def test_a_tsv_line_without_exactly_one_tab_is_an_input_error(tmp_path, line, tabs):
    file = write(tmp_path / "text.tsv", f"a\tA\n{line}\n")
    with pytest.raises(InputError, match=rf"{file}, line 2, .*; got {tabs} tabs"):
        read_tsv(file)


def test_a_tsv_error_counts_the_lines_of_its_own_file(tmp_path):
    good = write(tmp_path / "good.tsv", "a\tA\nb\tB\n")
    bad = write(tmp_path / "bad.tsv", "no tab\n")
    with pytest.raises(InputError, match=rf"{bad}, line 1, "):
        read_tsv([good, bad])


def read_pairs(path):
    (text,) = PairFiles(path).blocks(None)
    return text


def test_a_third_column_is_the_weight_of_the_pair(tmp_path):
    text = read_pairs(write(tmp_path / "t.tsv", "a\tA\t0.5\nb\tB\nc\tC\t0\nd\tD\t2e3\n"))
    assert (text.sources, text.targets) == (["a", "b", "d"], ["A", "B", "D"])
    assert text.weights == [0.5, 1, 2000]
    assert text.dropped == {"weight 0": 1}


def test_weights_of_1_are_no_weights(tmp_path):
    assert read_pairs(write(tmp_path / "t.tsv", "a\tA\t1\nb\tB\t1.0\nc\tC\n")).weights is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no tab", "got 0 tabs"),
        ("a\tb\t1\t", "got 3 tabs"),
        ("a\tb\t", "weight.*''"),
        ("a\tb\tmuch", "weight.*'much'"),
        ("a\tb\t-1", "weight.*'-1'"),
        ("a\tb\tnan", "weight.*'nan'"),
        ("a\tb\tinf", "weight.*'inf'"),
        ("a\tb\t1e-7", "weight.*'1e-7'"),
    ],
)
def test_a_line_that_is_no_pair_with_a_weight_is_an_input_error(tmp_path, line, message):
    file = write(tmp_path / "text.tsv", f"a\tA\t2\n{line}\n")
    with pytest.raises(InputError, match=rf"{file}, line 2.*{message}"):
        read_pairs(file)


def test_files_are_paired_one_by_one(tmp_path):
    lines = {"a.en": 3, "b.en": 7, "a.de": 4, "b.de": 6}  # 10 lines a side.
    for name, count in lines.items():
        (tmp_path / name).write_text("text\n" * count)
    sides = [[tmp_path / f"{name}.{side}" for name in "ab"] for side in ("en", "de")]
    with pytest.raises(InputError, match=r"got 3 in .*a\.en and 4 in .*a\.de"):
        read_parallel(*sides)


def test_a_byte_order_mark_is_dropped_at_the_start_of_each_file(tmp_path):
    first = write(tmp_path / "first", b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    second = write(tmp_path / "second.gz", gzip.compress(b"\xef\xbb\xbfc\n"))
    assert list(read_lines([first, second])) == ["a", "\ufeffb", "c"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_utf16_is_refused_with_its_line_with_a_mark_or_without(tmp_path, encoding):
    file = write(tmp_path / "text", "two dogs\na dog\n".encode(encoding))
    with pytest.raises(InputError, match=rf"{file}, line 1, .*UTF-8; got a NUL, .*UTF-16"):
        list(read_lines(file))


def test_pairs_with_an_invisible_side_count_as_empty(tmp_path):
    source = write(tmp_path / "source", "a\nb\nc\n\u2060\ne\n")
    target = write(tmp_path / "target", "A\n\u200b\n \u200d\ufeff\nD\n.\n")
    text = read_parallel(source, target)
    assert (text.sources, text.targets, text.empty) == (["a", "e"], ["A", "."], 3)
