"""Scores runs on both kinds of captions.

    python -m training.finetuning.score RUN ... --data FOLDER

prints BLEU and chrF of each run, with the run's beam, on `people.en` and `others.en` of each folder
that `split` wrote, such as `val` and `test`, in Markdown.
"""

import argparse
import sys
from pathlib import Path

from ktransformer.engines import load_engine, translate_lines
from ktransformer.scores import score_texts
from ktransformer.text import read_aligned
from training.programs import exit_status

TOPICS = ("people", "others")


def main() -> int:
    """Prints a row for each run and folder; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of trained runs")
    parser.add_argument("--data", nargs="+", required=True, type=Path, metavar="FOLDER")
    options = parser.parse_args()
    return exit_status("score", lambda: score(options.runs, options.data))


def score(runs: list[str], folders: list[Path]) -> None:
    """Prints the scores of runs on the captions in some folders."""
    print("| run | captions | people: BLEU, chrF | others: BLEU, chrF |\n| --- | --- | --- | --- |")
    for run in runs:
        engine = load_engine(run)
        for folder in folders:
            cells = [Path(run).name, folder.name]
            for topic in TOPICS:
                english, german = read_aligned(folder / f"{topic}.en", folder / f"{topic}.de")
                texts = [each.text for each in translate_lines(engine, english)]
                scores = score_texts(texts, german)
                cells.append(f"{scores.bleu:.2f}, {scores.chrf:.2f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
