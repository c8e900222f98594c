"""Measures which pairs of a corrupted text the rules of cleaning drop.

    python -m training.cleaning.measure --source train.en --target train.de

A fifth of the pairs are corrupted, each in one of eight ways; the rest stay as they are. The
program prints, for each rule, the precision and the recall over the pairs that were corrupted
against it, then the recall of each way, the pairs that were dropped though nobody corrupted them,
and the speed. The corruption depends on the seed alone.
"""

import argparse
import collections
import json
import random
import time

from ktransformer.text import Cleaner, Cleaning, read_aligned
from ktransformer.text.cleaning import RULES

Pair = tuple[str, str]
_GREEK = str.maketrans(
    "abcdefghijklmnopqrstuvwxyz", "αβξδεφγηιϊκλμνοπθρστυωχψζϋ"
)  # One letter for another, as a text of another script.


def corrupt(pairs: list[Pair], share: float, seed: int) -> tuple[list[Pair], list[str | None]]:
    """Corrupts a share of the pairs, and returns the way of each, None for those left alone."""
    generator = random.Random(seed)
    chosen = set(generator.sample(range(1, len(pairs)), round(share * len(pairs))))
    ways = list(_WAYS)
    corrupted: list[Pair] = []
    names: list[str | None] = []
    left_alone: list[Pair] = [pairs[0]]
    for i, (source, target) in enumerate(pairs):
        name = generator.choice(ways) if i in chosen else None
        if name is not None:
            earlier = generator.choice(left_alone)
            source, target = _WAYS[name][1](generator, source, target, earlier)
        else:
            left_alone.append((source, target))
        corrupted.append((source, target))
        names.append(name)
    return corrupted, names


def _cut(generator, source, target, earlier):
    """Keeps the first word or two of the target."""
    return source, " ".join(target.split()[: generator.randint(1, 2)])


def _join(generator, source, target, earlier):
    """Repeats the target until it is four times as long, as a lost line break does."""
    return source, " ".join([target] * 4)


def _copy(generator, source, target, earlier):
    return source, source


def _copy_shouting(generator, source, target, earlier):
    return source, source.upper()


def _other_script(generator, source, target, earlier):
    return source, target.lower().translate(_GREEK)


def _number(generator, source, target, earlier):
    """Puts a number of four digits on one side."""
    return f"{source} ({generator.randint(1000, 9999)})", target


def _other_number(generator, source, target, earlier):
    """Puts different numbers of three digits on the two sides."""
    numbers = generator.sample(range(100, 1000), 2)
    return f"{source} {numbers[0]}", f"{target} {numbers[1]}"


def _repeat(generator, source, target, earlier):
    """An earlier pair once more."""
    return earlier


# By name: the rule that should find it, and the function.
_WAYS = {
    "cut target": ("ratio", _cut),
    "target four times": ("ratio", _join),
    "copy": ("identical", _copy),
    "copy in capitals": ("identical", _copy_shouting),
    "other script": ("script", _other_script),
    "number on one side": ("digits", _number),
    "other number": ("digits", _other_number),
    "earlier pair": ("duplicates", _repeat),
}


def measure(pairs: list[Pair], share: float, seed: int) -> dict[str, object]:
    """Cleans the corrupted pairs and compares the reasons with the ways."""
    corrupted, ways = corrupt(pairs, share, seed)
    start = time.process_time()
    reasons = [reason for _, reason in Cleaner(Cleaning()).judge(corrupted)]
    seconds = time.process_time() - start
    found = collections.Counter(zip(ways, reasons, strict=True))
    rules = {}
    for rule in RULES:
        right = sum(n for (way, reason), n in found.items() if way and reason == rule)
        dropped = sum(n for (_, reason), n in found.items() if reason == rule)
        meant = [way for way, (own, _) in _WAYS.items() if own == rule]
        whole = sum(n for (way, _), n in found.items() if way in meant)
        hits = sum(found[way, rule] for way in meant)
        rules[rule] = {
            "dropped": dropped,
            "precision": round(right / max(dropped, 1), 4),
            "recall": round(hits / max(whole, 1), 4),
        }
    recalls = {}
    for way in _WAYS:
        whole = sum(n for (each, _), n in found.items() if each == way)
        recalls[way] = round(1 - found[way, None] / max(whole, 1), 4)
    return {
        "pairs": len(pairs),
        "corrupted": sum(way is not None for way in ways),
        "rules": rules,
        "dropped of each way": recalls,
        "dropped though not corrupted": {
            str(reason): n for (way, reason), n in found.items() if way is None and reason
        },
        "pairs per second": round(len(pairs) / seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, metavar="FILE", help="source text")
    parser.add_argument("--target", required=True, metavar="FILE", help="its translation")
    parser.add_argument("--share", type=float, default=0.2, help="share of corrupted pairs")
    parser.add_argument("--seed", type=int, default=1, help="seed of the corruption")
    options = parser.parse_args()
    pairs = list(zip(*read_aligned(options.source, options.target), strict=True))
    print(json.dumps(measure(pairs, options.share, options.seed), indent=1))


if __name__ == "__main__":
    main()
