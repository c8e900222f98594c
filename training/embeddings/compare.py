"""Compares the exports of a sentence encoder with stored vectors of sentence-transformers.

    python -m training.embeddings.compare OUTPUT --lines lines.txt --reference reference.npz

It prints how many lines have other ids, and for each export the greatest difference of a component,
the mean and least cosine with the reference, and how a ranking changes: each line is a query for
all others, ranked by cosine; the share of queries with the same best line, and the share of the
reference's best ten that are found.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

import numpy as np

from ktransformer.engines import open_model
from ktransformer.text import load_tokenizer, read_lines
from training.embeddings.convert import FORMS
from training.programs import exit_status

BATCH, BEST = 32, 10


class Agreement(NamedTuple):
    """How vectors agree with others of the same lines.

    Attributes:
        difference: The greatest difference of a component.
        mean_cosine: Mean of the cosines of corresponding vectors.
        least_cosine: The least of them.
        same_best: Share of lines whose nearest other line is the same.
        best_found: Share of the ten nearest other lines that are among the ten nearest.
    """

    difference: float
    mean_cosine: float
    least_cosine: float
    same_best: float
    best_found: float


def main() -> int:
    """Prints the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", metavar="OUTPUT", help="what convert.py wrote")
    parser.add_argument("--lines", required=True, metavar="FILE")
    parser.add_argument("--reference", required=True, metavar="FILE", help="by reference.py")
    options = parser.parse_args()
    return exit_status("compare", lambda: compare(options))


def compare(options: argparse.Namespace) -> None:
    """Embeds the lines with every export and prints a row for each."""
    lines = list(read_lines(options.lines))
    with np.load(options.reference) as file:
        reference, ids, lengths = file["embedding"], file["ids"], file["lengths"]
    tokenizer = load_tokenizer(Path(options.output) / "model" / "tokenizer.model")
    wanted = np.split(ids, np.cumsum(lengths)[:-1])
    pairs = zip(tokenizer.encode_lines(lines), wanted, strict=True)
    differ = sum(not np.array_equal(ours, theirs) for ours, theirs in pairs)
    print(f"{differ} of {len(lines)} lines have other ids.\n")
    print("| export | greatest difference | mean cosine | least | same best | best ten found |")
    print("| --- | --- | --- | --- | --- | --- |")
    for form in FORMS:
        found = agreement(embed(Path(options.output) / form, lines), reference)
        print(
            f"| {form} | {found.difference:.1e} | {found.mean_cosine:.6f} | "
            f"{found.least_cosine:.4f} | {found.same_best:.1%} | {found.best_found:.1%} |"
        )


def embed(path: Path, lines: list[str]) -> np.ndarray:
    """Returns the vectors `[N, D]` of lines by an export, in batches of like length."""
    model = open_model(path)
    order = sorted(range(len(lines)), key=lambda i: len(lines[i]))
    vectors = [
        model.run(
            "serving_default", texts=encoded([lines[i] for i in order[start : start + BATCH]])
        )
        for start in range(0, len(lines), BATCH)
    ]
    joined = np.concatenate([each["embedding"] for each in vectors])
    return joined[np.argsort(order)]


def encoded(lines: list[str]) -> np.ndarray:
    """Returns lines as an array `[B]` of UTF-8."""
    return np.array([line.encode() for line in lines], object)


def agreement(vectors: np.ndarray, reference: np.ndarray) -> Agreement:
    """Compares unit vectors `[N, D]` with those of the reference."""
    cosines = np.sum(vectors * reference, axis=1)
    ranked, wanted = nearest(vectors), nearest(reference)
    found = [len({*a} & {*b}) / BEST for a, b in zip(ranked.tolist(), wanted.tolist(), strict=True)]
    return Agreement(
        float(np.abs(vectors - reference).max()),
        float(cosines.mean()),
        float(cosines.min()),
        float(np.mean(ranked[:, 0] == wanted[:, 0])),
        float(np.mean(found)),
    )


def nearest(vectors: np.ndarray) -> np.ndarray:
    """Returns the numbers of the ten nearest other lines of each, nearest first: `[N, 10]`."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :BEST]


if __name__ == "__main__":
    raise SystemExit(main())
