"""`ktransformer clean`: leaves out pairs that are hardly translations, and tells which and why."""

import argparse
import contextlib
import json
from typing import Any

from ktransformer.config import CLEANING_RULES, Config, DataConfig
from ktransformer.errors import InputError

HELP = "leave out pairs of parallel text that are hardly translations"
EXAMPLE = "ktransformer clean --source train.en --target train.de --output cleaned"
_SETTINGS = ("clean_ratio", "clean_script", "clean_digits")


def add_text(parser: argparse._ActionsContainer) -> None:
    """Adds the options for files of pairs: `--source` and `--target`, or `--pairs`."""
    for name, text in (
        ("--source", "source text, a line each; .gz is unpacked; several files follow on"),
        ("--target", "its translation, line for line"),
        ("--pairs", "instead: a source, a tab, a target, and possibly a tab and a weight, a line"),
    ):
        parser.add_argument(name, nargs="+", action="extend", metavar="FILE", help=text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    add_text(parser)
    parser.add_argument(
        "--rules",
        default=",".join(CLEANING_RULES),
        metavar="RULES",
        help="the rules, as the setting clean of train has them; see docs/training-text.md",
    )
    for name, text in zip(
        _SETTINGS,
        (
            "rule ratio: the most that a pair's ratio of lengths differs from the text's",
            "rule script: the least share of a side's letters in the text's scripts",
            "rule digits: the most digits without a counterpart on the other side",
        ),
        strict=True,
    ):
        option, default = name.removeprefix("clean_"), getattr(DataConfig(), name)
        parser.add_argument(f"--{option}", dest=name, default=default, metavar="N", help=text)
    parser.add_argument(
        "--output",
        required=True,
        metavar="FOLDER",
        help="folder to write: `source` and `target`, or `pairs.tsv`, and `dropped.jsonl`, the "
        "dropped pairs with their line and reason",
    )


def open_text(options: argparse.Namespace) -> Any:
    """Returns the files of pairs that the options name.

    Raises:
        InputError: They name none, one side alone, or both kinds.
    """
    from ktransformer.text import PairFiles, ParallelFiles

    sides = options.source, options.target
    if all(sides) and not options.pairs:
        return ParallelFiles(*sides)
    if options.pairs and not any(sides):
        return PairFiles(options.pairs)
    if any(sides) and not options.pairs:
        given, missing = ("source", "target") if options.source else ("target", "source")
        raise InputError(f"--{given} needs --{missing}, the other side of the text.")
    raise InputError("The text is --source and --target, or --pairs: one of the two.")


def run(options: argparse.Namespace) -> None:
    """Writes the pairs that are kept and those that are dropped; prints the counts as JSON."""
    from ktransformer.files import check_new_folder, new_folder
    from ktransformer.fitting.pair_batches import cleaning_of
    from ktransformer.text.cleaning import EMPTY, WEIGHTLESS, Cleaner

    files = open_text(options)
    settings = {name: getattr(options, name) for name in _SETTINGS}
    config = Config().replace({"clean": options.rules, **settings})
    check_new_folder(options.output)
    counts: dict[str, int] = dict.fromkeys((EMPTY, WEIGHTLESS, *config.data.clean), 0)
    lines = 0
    with new_folder(options.output) as folder, contextlib.ExitStack() as stack:
        names = ("pairs.tsv",) if options.pairs else ("source", "target")
        kept, (dropped,) = (
            [stack.enter_context((folder / name).open("w", encoding="utf-8")) for name in group]
            for group in (names, ("dropped.jsonl",))
        )
        judged = Cleaner(cleaning_of(config)).judge(files.pairs())
        for lines, (pair, reason) in enumerate(judged, start=1):
            if reason is None:
                texts = ["\t".join(map(str, pair))] if options.pairs else pair
                for text, file in zip(texts, kept, strict=True):
                    file.write(f"{text}\n")
            else:
                counts[reason] += 1
                entry = {"line": lines, "reason": reason, "pair": pair}
                dropped.write(json.dumps(entry, ensure_ascii=False) + "\n")
    print(json.dumps({"pairs": lines, "kept": lines - sum(counts.values()), "dropped": counts}))
