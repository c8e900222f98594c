"""The columns that `translate` prints behind a translation: alignment and scores of tokens."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ktransformer.cli.engine import find_batch_size

if TYPE_CHECKING:
    from ktransformer.engines import Annotation, Engine


def add_annotations(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument(
        "--alignment",
        action="store_true",
        help="print behind each translation, after a tab, which of its words come from which words "
        "of the source: 0-0 1-2, a source word and a target word each, counted from 0",
    )
    parser.add_argument(
        "--token-scores",
        action="store_true",
        help="print behind each translation, after a tab, its tokens and their log-probabilities: "
        "▁Hunde:-0.0512 </s>:-0.0034",
    )


def annotate_lines(
    engine: "Engine",
    options: argparse.Namespace,
    sources: Sequence[str],
    translations: Sequence[str],
) -> list[str]:
    """Returns each translation with the columns that are asked for."""
    from ktransformer.engines import batches_by_length

    if not (options.alignment or options.token_scores):
        return list(translations)
    lines = [""] * len(sources)
    for places in batches_by_length(sources, find_batch_size(options)):
        chosen = [[texts[i] for i in places] for texts in (sources, translations)]
        for place, annotation in zip(places, engine.annotate(*chosen), strict=True):
            lines[place] = "\t".join(_columns(annotation, options))
    return lines


def _columns(annotation: "Annotation", options: argparse.Namespace) -> list[str]:
    columns = [annotation.target.replace("\t", " ")]
    if options.alignment:
        columns.append(annotation.pharaoh)
    if options.token_scores:
        scored = zip(annotation.tokens, annotation.scores, strict=True)
        columns.append(" ".join(f"{token}:{score:.4f}" for token, score in scored))
    return columns
