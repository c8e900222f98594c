"""Writes the lines that the embeddings are compared on: captions and sentences of many scripts.

    python -m training.embeddings.lines --text FILE... --output lines.txt

768 lines are made up, in twelve languages (see `sentences.py`); the others come from the files of
text, as many from each.
"""

import argparse
from pathlib import Path

from ktransformer.errors import InputError
from ktransformer.text import read_lines
from training.embeddings.sentences import sentences
from training.programs import exit_status


def main() -> int:
    """Writes the lines; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", nargs="+", required=True, metavar="FILE", help="files of text")
    parser.add_argument("--output", required=True, metavar="FILE", help="file to write")
    parser.add_argument("--count", type=int, default=2000, help="lines in all")
    options = parser.parse_args()
    return exit_status("lines", lambda: write(options.text, options.output, options.count))


def write(texts: list[str], output: str, count: int) -> None:
    """Writes `count` lines; see the module."""
    lines = sentences()
    missing = count - len(lines)
    if missing < len(texts):
        raise InputError(f"count must be at least {len(lines) + len(texts)}; got {count}.")
    for i, path in enumerate(texts):
        share = (missing * (i + 1)) // len(texts) - (missing * i) // len(texts)
        found = [line for line in read_lines(path) if line.strip()][:share]
        if len(found) < share:
            raise InputError(f"{path} must have {share} lines of text; it has {len(found)}.")
        lines += found
    Path(output).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
