import io
import re
import subprocess
import sys

import pytest

from ktransformer.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_says_lines_speed_and_share():
    stream = io.StringIO()
    progress = Progress(stream, total_bytes=16, interval_seconds=0)
    progress.add(["one", "zwölf"[:3]])  # 4 and 5 bytes with their ends, ö being two.
    progress.add(["seven!"])
    progress.finish()
    first, last = stream.getvalue().splitlines()
    assert re.fullmatch(r"2 lines translated, [\d.]+ a second, 56\.2% of the file\.", first)
    assert re.fullmatch(r"3 lines translated, [\d.]+ a second\.", last)


def test_a_stream_of_unknown_length_has_no_share():
    stream = io.StringIO()
    Progress(stream, interval_seconds=0).add(["one"])
    assert "%" not in stream.getvalue()
    assert stream.getvalue().startswith("1 lines translated")


@pytest.mark.parametrize("total_bytes", [None, 8])
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_the_total_is_printed_once(kind, total_bytes):
    stream = kind()
    progress = Progress(stream, total_bytes, interval_seconds=0)
    progress.add(["one"])
    progress.add(["two"])
    progress.finish()
    assert stream.getvalue().count("2 lines translated") == 1
    assert stream.getvalue().endswith(" a second.\n")


def test_the_total_ends_a_file_whose_lines_have_longer_ends():
    stream = io.StringIO()
    progress = Progress(stream, total_bytes=5, interval_seconds=0)  # Of "one\r\n".
    progress.add(["one"])
    progress.finish()
    assert stream.getvalue().splitlines()[-1].endswith(" a second.")


def test_on_a_terminal_a_report_replaces_the_one_before():
    stream = Terminal()
    progress = Progress(stream, interval_seconds=0)
    progress.add(["one"])
    progress.add(["two"])
    progress.finish()
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r\x1b[K") == 2


def test_a_log_is_not_filled_with_reports():
    stream = io.StringIO()
    progress = Progress(stream)
    for _ in range(1000):
        progress.add(["one"])
    progress.finish()
    assert len(stream.getvalue().splitlines()) == 1


def test_a_name_in_a_message_does_not_steer_the_terminal():
    code = (
        "import logging\n"
        "from ktransformer.cli.progress import log_to_stderr\n"
        "log_to_stderr()\n"
        "logging.getLogger('ktransformer.x').info('Wrote %s.', 'run\\x1b[2J\\udcff')\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert result.stderr == b"Wrote run\\x1b[2J\\udcff.\n"
