import contextlib
import os
import random
import threading

import pytest

from ktransformer.errors import InputError
from ktransformer.text.line_blocks import read_blocks, read_byte_blocks


@pytest.fixture
def pipe():
    """The two ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # The test may have closed it.
            os.close(end)


def read_file(path, content: bytes, **limits: int) -> list[list[str]]:
    path.write_bytes(content)
    with path.open("rb") as file:
        return list(read_blocks(file.fileno(), "input", **limits))


def test_what_has_come_does_not_wait_for_what_has_not(pipe):
    reading, writing = pipe
    blocks = read_blocks(reading, "input")
    os.write(writing, b"one\ntwo\nthr")
    assert next(blocks) == ["one", "two"]
    os.write(writing, b"ee\n")
    assert next(blocks) == ["three"]
    os.write(writing, b"last")
    os.close(writing)
    assert list(blocks) == [["last"]]


def test_many_lines_do_not_wait_for_the_end_of_the_next(pipe):
    reading, writing = pipe
    os.write(writing, b"x\n" * 2**15)  # As much as a read takes, and a pipe holds.
    blocks = read_blocks(reading, "input")
    later = threading.Timer(0.005, os.write, (writing, b"part"))
    later.start()  # While the block waits for more.
    assert next(blocks) == ["x"] * 2**15
    later.join()
    os.write(writing, b" end\n")
    assert next(blocks) == ["part end"]


def test_a_stream_that_does_not_block_is_waited_for(pipe):
    reading, writing = pipe
    os.set_blocking(reading, False)
    later = threading.Timer(0.05, os.write, (writing, b"one\n"))
    later.start()
    assert next(read_blocks(reading, "input")) == ["one"]
    later.join()


def test_a_stream_that_cannot_be_read_is_named(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(InputError, match="Cannot read standard input: Is a directory"):
        next(read_blocks(folder, "standard input"))
    os.close(folder)


def test_a_file_comes_in_blocks_of_as_many_lines_as_asked(tmp_path):
    lines = [f"{'x' * 1000} {i}" for i in range(1000)]
    blocks = read_file(tmp_path / "file", "\n".join(lines).encode() + b"\n", max_lines=200)
    assert [line for block in blocks for line in block] == lines
    assert all(200 <= len(block) < 200 + 66 for block in blocks[:-1])  # A read is 64 KiB.


def test_a_block_ends_at_as_many_bytes_as_asked(tmp_path):
    blocks = read_file(tmp_path / "file", (b"x" * 999 + b"\n") * 1000, max_bytes=1 << 17)
    assert [len(block) for block in blocks] == [196, 197, 196, 197, 197, 17]


def test_lines_are_those_of_the_content_however_long_they_are(tmp_path):
    generator = random.Random(4)
    lines = ["ä" * generator.choice([0, 1, 50, 40_000, 100_000]) for _ in range(60)]
    for end in ("", "\n"):
        blocks = read_file(tmp_path / "file", "\n".join([*lines, "end"]).encode() + end.encode())
        assert [line for block in blocks for line in block] == [*lines, "end"]
    assert read_file(tmp_path / "file", b"") == []
    assert read_file(tmp_path / "file", b"\na\r\n\n") == [["", "a", ""]]


def test_the_lines_before_one_that_is_not_utf8_are_given_first(tmp_path):
    (tmp_path / "file").write_bytes(b"one\ntwo\n\xff\n")
    with (tmp_path / "file").open("rb") as file:
        blocks = read_blocks(file.fileno(), "standard input")
        assert next(blocks) == ["one", "two"]
        with pytest.raises(InputError, match="standard input, line 3, is not valid UTF-8"):
            next(blocks)


def test_a_byte_order_mark_at_the_start_of_a_stream_is_dropped(tmp_path):
    content = b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n"
    assert read_file(tmp_path / "text", content) == [["one", "\ufefftwo"]]


def test_a_stream_in_utf16_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"input, line 1, .*NUL"):
        read_file(tmp_path / "text", "one\ntwo\n".encode("utf-16-le"))


def test_blocks_of_bytes_end_behind_lines_as_they_come(pipe):
    reading, writing = pipe
    blocks = read_byte_blocks(reading, "input")
    os.write(writing, b"one\r\n\n\xff")
    assert next(blocks) == b"one\r\n\n"
    os.write(writing, b"\0two\nlast")
    assert next(blocks) == b"\xff\0two\n"
    os.close(writing)
    assert list(blocks) == [b"last"]


def test_blocks_of_bytes_are_bounded_unless_a_line_is_longer(tmp_path):
    content = b"".join(b"%d" % i * 300 + b"\n" for i in range(1000))
    (tmp_path / "input").write_bytes(content + b"x" * 200_000)
    with (tmp_path / "input").open("rb") as file:
        blocks = list(read_byte_blocks(file.fileno(), "input", max_bytes=1 << 16))
    assert b"".join(blocks) == content + b"x" * 200_000
    assert all(block.endswith(b"\n") for block in blocks[:-1])
    assert max(map(len, blocks[:-1])) < 1 << 18
