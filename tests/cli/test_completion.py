"""The scripts of `--print-completion` complete in the shells themselves, on a pseudo-terminal."""

import os
import pty
import re
import select
import shutil
import signal
import time

import pytest

from ktransformer.cli.command_line import main

# How a shell starts without a user's files, what it runs first, and how often Tab is pressed for an
# option: zsh shows what it means before it completes it.
SHELLS = {
    "bash": (
        ["--norc", "-i"],
        'eval "$(cat script)"; ktransformer() { echo "RAN: $*"; }',
        "\t",
    ),
    "zsh": (
        ["-f", "-i"],
        'autoload -U compinit; compinit -u -D; eval "$(cat script)"; '
        'ktransformer() { echo "RAN: $*"; }',
        "\t\t",
    ),
    "tcsh": (["-f", "-i"], "source script; alias ktransformer 'echo RAN: \\!*'", "\t"),
}


def write_script(shell, folder, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", shell])
    (folder / "script").write_text(capsys.readouterr().out)


def read_until(terminal, pattern):
    """Returns what a terminal shows up to what a pattern finds; fails after a minute."""
    shown, end = "", time.monotonic() + 60
    while not re.search(pattern, shown):
        if time.monotonic() > end:
            pytest.fail(f"{pattern} is not in {shown!r}")
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 1 << 16).decode(errors="replace")
    return shown


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_commands_and_options(shell, tmp_path, capsys):
    pytest.importorskip("shtab")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed.")
    write_script(shell, tmp_path, capsys)
    options, setup, tabs = SHELLS[shell]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        # tcsh completes on no dumb terminal.
        environment = {**os.environ, "TERM": "vt100", "HOME": str(tmp_path)}
        os.execvpe(shell, [shell, *options], environment)
    try:
        os.write(terminal, f"{setup}; echo rea''dy\n".encode())
        read_until(terminal, r"ready\s")
        for typed, run in (
            ("ktransformer transl\t", r"RAN: translate\s"),
            (f"ktransformer translate --beam-s{tabs}2", r"RAN: translate --beam-size 2\s"),
            (f"ktransformer export --quanti{tabs}", r"RAN: export --quantize\s"),
        ):
            os.write(terminal, f"{typed}\n".encode())
            read_until(terminal, run)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
