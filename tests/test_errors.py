import pytest
import tensorflow as tf

from ktransformer.errors import InputError, brief, check_unicode, first_line, printable


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n a reason\nand a trace"), "a reason"),
        (ValueError(), "ValueError"),
        (KeyboardInterrupt(" \n"), "KeyboardInterrupt"),
        (tf.errors.ResourceExhaustedError(None, None, "no space\nleft"), "no space"),
        (tf.errors.UnknownError(None, None, ""), "UnknownError"),
    ],
)
def test_an_error_is_told_by_its_first_line_or_its_name(error, line):
    assert first_line(error) == line


def test_a_name_does_not_steer_a_terminal():
    assert printable("run\x1b[2J\n\udcff\u202e.tflite é") == r"run\x1b[2J\n\udcff\u202e.tflite é"
    assert str(InputError("no run\x1b[2J")) == r"no run\x1b[2J"


def test_text_that_utf8_cannot_write_is_refused_by_its_name():
    with pytest.raises(InputError, match=r"source_label .*UTF-8.*'\\udcff'"):
        check_unicode("source_label", "\udcff")


def test_what_a_user_gave_is_cut_where_it_is_long():
    assert len(brief("x" * 10**6)) < 250
    assert brief(1 << 20_000) == "an integer of 20001 bits"
    assert brief(7) == "7"
