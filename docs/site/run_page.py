"""Runs the blocks of code of a page from top to bottom, in the working folder.

    python docs/site/run_page.py docs/tutorials/first-translator.md

blocks.py says what runs. It stops with a non-zero exit status at the first block that fails or
prints something other than the page shows.
"""

import contextlib
import doctest
import io
import linecache
import subprocess
import sys
import types
from pathlib import Path

from blocks import Part, split_page

_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def run_page(path: Path) -> None:
    """Runs a page.

    Raises:
        SystemExit: A shell's block failed, or a block printed something else than is shown.
    """
    module = types.ModuleType("page")  # Of its own, so that no name of this program is in the way.
    sys.modules["page"] = module
    printed = ""
    for part in split_page(path.read_text(encoding="utf-8")):
        place = f"{path}:{part.line}"
        if part.language == "python":
            printed = _run_python(part, place, module)
        elif part.language == "sh":
            printed = _run_shell(part, place)
        elif part.language == "output":
            _compare(part.text, printed, place)


def _run_python(part: Part, place: str, module: types.ModuleType) -> str:
    """Runs a block in the module's namespace; returns what it prints."""
    lines = part.text.splitlines(keepends=True)
    linecache.cache[place] = (len(part.text), None, lines, place)  # For tracebacks and AutoGraph.
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        exec(compile(part.text, place, "exec"), vars(module))
    sys.stdout.write(stdout.getvalue())
    return stdout.getvalue()


def _run_shell(part: Part, place: str) -> str:
    """Runs a block in a shell that stops at the first command that fails."""
    done = subprocess.run(["sh", "-euc", part.text], stdout=subprocess.PIPE, check=False)
    printed = done.stdout.decode(errors="replace")
    sys.stdout.write(printed)
    if done.returncode:
        raise SystemExit(f"{place}: the shell's exit status is {done.returncode}.")
    return printed


def _compare(expected: str, printed: str, place: str) -> None:
    if not doctest.OutputChecker().check_output(expected, printed, _OPTIONS):
        raise SystemExit(f"{place}: the page shows\n{expected}\nbut the block prints\n{printed}")


if __name__ == "__main__":
    run_page(Path(sys.argv[1]).resolve())
