import pytest
import tensorflow as tf

from ktransformer.errors import first_line


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
