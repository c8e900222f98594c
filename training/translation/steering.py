"""Measures what steering costs: a request without options, and the settings that end loops.

    python -m training.translation.steering RUN SOURCE REFERENCE [--lines N]

prints, for `serving_default`, `controlled` without options and with one, and each setting: how many
translations change, BLEU, and the seconds of CPU on one thread, batches of 32 lines of like length,
without tracing. Figures: docs/steering.md.
"""

import argparse
import functools
import time
from collections.abc import Mapping
from typing import Any

import sacrebleu
import tensorflow as tf

from ktransformer.engines import ModelEngine, translate_blocks
from ktransformer.tasks import Translator, load_translator
from ktransformer.text import read_lines

_SETTINGS: tuple[dict[str, Any], ...] = (
    {"max_repeats": 3},
    {"max_repeats": 2},
    {"no_repeat_ngram_size": 4},
)
_REQUESTS: tuple[dict[str, Any], ...] = ({}, {"repetition_penalty": 1.0001})


def translate(
    translator: Translator, lines: list[str], request: Mapping[str, Any] | None = None
) -> tuple[list[str], float]:
    """Returns the translations and the seconds of CPU of the second of two runs."""
    engine = ModelEngine(translator)
    steered = None if request is None else functools.partial(engine.translate_controlled, **request)
    for _ in range(2):
        start = time.process_time()
        (found,) = translate_blocks(engine, [lines], translate=steered)
        seconds = time.process_time() - start
    return [translation.text for translation in found], seconds


def main() -> None:
    """Prints a line for each way to translate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("source")
    parser.add_argument("reference")
    parser.add_argument("--lines", type=int, default=None)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    lines = list(read_lines(options.source))[: options.lines]
    references = list(read_lines(options.reference))[: options.lines]
    translator = load_translator(options.run)
    plain, seconds = translate(translator, lines)

    def report(name: str, texts: list[str], seconds: float) -> None:
        changed = sum(a != b for a, b in zip(texts, plain, strict=True))
        bleu = sacrebleu.corpus_bleu(texts, [references]).score
        print(f"{name}: {changed} changed, BLEU {bleu:.2f}, {seconds:.1f} s", flush=True)

    report("serving_default", plain, seconds)
    for request in _REQUESTS:
        report(f"controlled {request}", *translate(translator, lines, request))
    for settings in _SETTINGS:
        report(str(settings), *translate(translator.with_settings(**settings), lines))


if __name__ == "__main__":
    main()
