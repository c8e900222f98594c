"""The options of `translate` that steer the search."""

import argparse
from typing import Any

from ktransformer.cli.options import count, nonnegative, number, positive

_NAMES = (
    *("prefix", "suppress", "alternatives", "min_length", "max_length", "repetition_penalty"),
    *("no_repeat_ngram_size", "coverage_penalty"),
    *("temperature", "top_k", "top_p", "min_p", "seed"),
)


def add_controls(parser: argparse.ArgumentParser) -> None:
    """Adds the options; an export takes them if it has the signature `controlled`."""
    group = parser.add_argument_group(
        "steering",
        "docs/steering.md; an export takes these if it has the signature controlled, see export",
    )
    group.add_argument(
        "--prefix", metavar="TEXT", help="begin each translation with this; it comes back unchanged"
    )
    group.add_argument(
        "--alternatives",
        action="store_true",
        default=None,
        help="let the --n-best translations differ in the first token after the prefix",
    )
    group.add_argument(
        "--suppress", nargs="+", metavar="WORD", help="words that are not to be written"
    )
    group.add_argument(
        "--min-length",
        type=count,
        metavar="N",
        help="fewest tokens after the prefix, the end token included",
    )
    group.add_argument("--max-length", type=positive, metavar="N", help="most tokens, likewise")
    group.add_argument(
        "--repetition-penalty",
        type=number,
        metavar="X",
        help="lower the logits of tokens that are there already; 1 for no penalty",
    )
    group.add_argument(
        "--no-repeat-ngram-size",
        type=count,
        metavar="N",
        help="write no run of so many tokens twice; 0 for no rule",
    )
    group.add_argument(
        "--coverage-penalty",
        type=nonnegative,
        metavar="X",
        help="lower the score where parts of the source get little attention",
    )
    group.add_argument(
        "--temperature", type=nonnegative, metavar="X", help="above 0: draw the translations"
    )
    group.add_argument(
        "--top-k", type=count, metavar="K", help="draw from the K most probable tokens"
    )
    group.add_argument(
        "--top-p",
        type=number,
        metavar="P",
        help="draw from the most probable tokens that reach this probability",
    )
    group.add_argument(
        "--min-p",
        type=number,
        metavar="P",
        help="draw from tokens with this share of the best one's probability",
    )
    group.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="the same seed draws the same translations (default: 0)",
    )


def find_controls(options: argparse.Namespace) -> dict[str, Any] | None:
    """Returns the options that are given, as `Engine.translate_controlled` takes them, or None."""
    given = {name: getattr(options, name) for name in _NAMES}
    given = {name: value for name, value in given.items() if value is not None}
    return given or None
