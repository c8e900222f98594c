"""The parser that every command's options are added to, and the options that several share."""

import argparse
import math
import textwrap
from typing import NoReturn

from ktransformer.config import DecodingConfig, convert
from ktransformer.errors import printable

A_PROGRAM = "a SavedModel is a program: open none that you do not trust (SECURITY.md)"


class Parser(argparse.ArgumentParser):
    """Escapes control characters in errors."""

    def error(self, message: str) -> NoReturn:
        super().error("\n".join(map(printable, message.split("\n"))))


def indent(text: str) -> str:
    """Indents each line by two spaces."""
    return textwrap.indent(text, "  ")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults, except None, False and what is empty; keeps the lines of the epilog."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def positive(word: str) -> int:
    """Parses a whole number from 1."""
    return _whole_number(word, least=1)


def count(word: str) -> int:
    """Parses a whole number from 0."""
    return _whole_number(word, least=0)


def _whole_number(word: str, least: int) -> int:
    if not word.isascii() or not word.isdecimal() or int(word) < least:
        raise argparse.ArgumentTypeError(f"must be a whole number from {least}; got {word}")
    return int(word)


def number(word: str) -> float:
    """Parses a finite number."""
    return _real_number(word, least=-math.inf, rule="a finite number")


def nonnegative(word: str) -> float:
    """Parses a number from 0."""
    return _real_number(word, least=0, rule="a number from 0")


def _real_number(word: str, least: float, rule: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not (least <= value < math.inf and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"must be {rule}; got {word}")
    return value


def add_decoding(parser: argparse._ActionsContainer) -> None:
    """Adds `--beam-size`, `--length-penalty` and `--copy`."""
    parser.add_argument(
        "--beam-size",
        type=positive,
        metavar="K",
        help="places of the beam, 1 for greedy (default: as the run was trained, "
        f"{DecodingConfig().beam_size} unless set)",
    )
    parser.add_argument(
        "--length-penalty",
        type=nonnegative,
        metavar="A",
        help="score of a translation: log-probability / length^A; more for longer ones (default: "
        f"as the run was trained, {DecodingConfig().length_penalty} unless set)",
    )
    parser.add_argument(
        "--copy",
        type=lambda word: convert("copy", word, tuple[str, ...]),
        metavar="KINDS",
        help="what translations keep as it is, such as tags,emoji, or none (default: as the run "
        "was trained); see docs/copied-text.md",
    )


def add_tag(parser: argparse._ActionsContainer) -> None:
    """Adds `--tag`."""
    parser.add_argument(
        "--tag",
        metavar="TAG",
        help="the tag to put before every text, of a model that was trained with tags: 2de for "
        "<2de>, see docs/mixtures.md (default: the run's own, which is none unless set)",
    )


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """Adds `--adapter`."""
    parser.add_argument(
        "--adapter", metavar="FILE", help="a LoRA adapter of that run, as train --adapter wrote it"
    )


def add_batch_size(parser: argparse.ArgumentParser, default: int = 32) -> None:
    """Adds `--batch-size`."""
    parser.add_argument(
        "--batch-size", type=positive, default=default, metavar="N", help="inputs of a batch"
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Adds `--threads`."""
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: one a core)"
    )
