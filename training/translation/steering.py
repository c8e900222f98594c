"""Measures what steering costs: requests, and the settings that end loops.

    python -m training.translation.steering RUN SOURCE REFERENCE [--lines N] [--rounds 5]
        [--beam-size K] [--saved-model] [--only WORD ...]

prints a table: for `serving_default`, a request without options, one whose option needs no rule,
one with a rule, and each setting, how many translations change, BLEU, the seconds of CPU on one
thread, and their ratio to those of `serving_default`. Batches have 32 lines of like length. Each
round runs all ways once, one after the other, after a first round that traces and is not counted;
the seconds are medians over the rounds, of which there may be none. `--only` measures the ways
whose names have one of the words.
Figures: docs/steering.md.
"""

import argparse
import functools
import math
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sacrebleu
import tensorflow as tf

from ktransformer.engines import Engine, ModelEngine, load_engine, translate_blocks
from ktransformer.exporting import export_saved_model
from ktransformer.tasks import Translator, load_translator
from ktransformer.text import read_lines

_SETTINGS: tuple[dict[str, Any], ...] = (
    {"max_repeats": 3},
    {"max_repeats": 2},
    {"max_repeats": 1},
    {"no_repeat_ngram_size": 3},
    {"no_repeat_ngram_size": 4},
)
_REQUESTS: tuple[dict[str, Any], ...] = (
    {},
    {"length_penalty": 1.0},
    {"repetition_penalty": 1.0001},
)


def translate(
    engine: Engine, lines: list[str], request: Mapping[str, Any] | None = None
) -> tuple[list[str], float]:
    """Returns the translations and the seconds of CPU; `request` is one of `controlled`."""
    steered = None if request is None else functools.partial(engine.translate_controlled, **request)
    start = time.process_time()
    (found,) = translate_blocks(engine, [lines], translate=steered)
    seconds = time.process_time() - start
    return [translation.text for translation in found], seconds


def open_engine(translator: Translator, folder: Path | None, *, controlled: bool) -> Engine:
    """Opens a translator itself, or its SavedModel, which is written to `folder`."""
    if folder is None:
        return ModelEngine(translator)
    signatures = ["serving_default", *(["controlled"] if controlled else [])]
    return load_engine(export_saved_model(translator, folder, signatures=signatures))


def measure(
    ways: dict[str, functools.partial[tuple[list[str], float]]], references: list[str], rounds: int
) -> None:
    """Prints a line of the table for each way; the first is what the others are compared with."""
    texts = {name: way()[0] for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(way()[1])
    first = next(iter(ways))
    medians = {
        name: statistics.median(each) if each else math.nan for name, each in seconds.items()
    }
    print("| | changed | BLEU | seconds | ratio |\n| --- | --- | --- | --- | --- |")
    for name, found in texts.items():
        changed = sum(a != b for a, b in zip(found, texts[first], strict=True))
        bleu = sacrebleu.corpus_bleu(found, [references]).score
        ratio = medians[name] / medians[first]
        print(
            f"| {name} | {changed} | {bleu:.2f} | {medians[name]:.2f} | {ratio:.3f} |", flush=True
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("source")
    parser.add_argument("reference")
    parser.add_argument("--lines", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beam-size", type=int, default=None)
    parser.add_argument("--saved-model", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""])
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    lines = list(read_lines(options.source))[: options.lines]
    references = list(read_lines(options.reference))[: options.lines]
    translator = load_translator(options.run).with_settings(max_repeats=0)
    if options.beam_size is not None:
        translator = translator.with_settings(beam_size=options.beam_size)
    with tempfile.TemporaryDirectory() as folder:

        def folder_of(name: str) -> Path | None:
            return Path(folder, name) if options.saved_model else None

        def is_wanted(name: str) -> bool:
            return any(word in name for word in options.only)

        plain = open_engine(translator, folder_of("plain"), controlled=True)
        ways: dict[str, functools.partial[tuple[list[str], float]]]
        ways = {"`serving_default`": functools.partial(translate, plain, lines)}
        for request in _REQUESTS:
            name = f"`controlled`, {request or 'no options'}"
            if is_wanted(name):
                ways[name] = functools.partial(translate, plain, lines, request)
        for number, settings in enumerate(_SETTINGS):
            ((name, value),) = settings.items()
            name = f"`{name}: {value}`"
            if not is_wanted(name):
                continue
            other = translator.with_settings(**settings)
            engine = open_engine(other, folder_of(str(number)), controlled=False)
            ways[name] = functools.partial(translate, engine, lines)
        measure(ways, references, options.rounds)


if __name__ == "__main__":
    main()
