"""Splits the pairs of Multi30k by topic: captions that name a person, and all others.

    python -m training.finetuning.split --source train.en.gz --target train.de.gz --output FOLDER

writes `people.en`, `people.de`, `others.en` and `others.de` into the folder. A caption names a
person if its source has one of the words of `PEOPLE`; the others are of dogs and other animals, of
sports, crowds and places.
"""

import argparse
import re
import sys
from pathlib import Path

from ktransformer.text import read_parallel
from training.programs import exit_status

PEOPLE = (
    "man|men|woman|women|boy|boys|girl|girls|child|children|kid|kids|person|people|baby|lady|"
    "ladies|guy|guys|player|players|toddler|couple|gentleman|worker|workers"
)
_NAMES_A_PERSON = re.compile(rf"\b({PEOPLE})\b", re.IGNORECASE)


def main() -> int:
    """Writes the four files; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", required=True, metavar="FILE", help="English captions")
    parser.add_argument("--target", required=True, metavar="FILE", help="the German ones")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER")
    options = parser.parse_args()
    return exit_status("split", lambda: split(options.source, options.target, options.output))


def split(source: str, target: str, folder: Path) -> None:
    """Writes the pairs of two files into a folder, by topic."""
    text = read_parallel([source], [target])
    sides: dict[str, list[str]] = {name: [] for name in _NAMES}
    for english, german in zip(text.sources, text.targets, strict=True):
        topic = "people" if _NAMES_A_PERSON.search(english) else "others"
        sides[f"{topic}.en"].append(english)
        sides[f"{topic}.de"].append(german)
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in sides.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        print(f"{len(lines):>7,} {name}")


_NAMES = ("people.en", "people.de", "others.en", "others.de")

if __name__ == "__main__":
    sys.exit(main())
