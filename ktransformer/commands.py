"""What each command does: one function a command, on parsed arguments."""

import argparse
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import sacrebleu
import tensorflow as tf

from ktransformer import fitting
from ktransformer.config import Config, read_settings
from ktransformer.errors import InputError
from ktransformer.models import PRESETS
from ktransformer.run import check_run_path, load_run, save_run
from ktransformer.serving import Translator, export_saved_model, translate_lines
from ktransformer.text import read_lines, read_parallel
from ktransformer.text.corpus import decode_line

_READ_BYTES = 1 << 16

_log = logging.getLogger(__name__)


def train(options: argparse.Namespace) -> None:
    """Trains a model on parallel text and writes its run."""
    if options.preset not in PRESETS:
        raise InputError(f"--preset must be one of {', '.join(PRESETS)}; got {options.preset!r}.")
    if bool(options.validation_source) != bool(options.validation_target):
        raise InputError("--validation-source and --validation-target go together; got one.")
    settings = read_settings(options.config) if options.config else {}
    config = Config().replace({**PRESETS[options.preset], **settings, **_pairs(options.set)})
    output = Path(options.output).resolve()
    check_run_path(output, overwrite=options.overwrite)
    checkpoints = _prepare_checkpoints(output, overwrite=options.overwrite)
    text = read_parallel(options.source, options.target)
    validation = None
    if options.validation_source:
        validation = read_parallel(options.validation_source, options.validation_target)
    try:
        run = fitting.train(config, text, validation, checkpoints=checkpoints)
        save_run(run, output, overwrite=options.overwrite)
    except (KeyboardInterrupt, InputError, OSError):
        if checkpoints.is_dir():
            _log.info("The last epochs' weights are in %s.", checkpoints)
        raise
    fitting.remove_checkpoints(checkpoints)
    _log.info("Wrote %s.", output)


def _prepare_checkpoints(output: Path, *, overwrite: bool) -> Path:
    """Returns the folder for the weights of the last epochs; it must hold none from before."""
    folder = output.with_name(f"{output.name}.checkpoints")
    if overwrite:
        fitting.remove_checkpoints(folder)
    if folder.exists():
        raise InputError(
            f"{folder} is there, from a training that was cut or of another origin; move it away."
        )
    return folder


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"--set takes key=value; got {setting!r}.")
        pairs[key] = value
    return pairs


def translate(options: argparse.Namespace) -> None:
    """Translates stdin to stdout, a line for a line, in order."""
    if not 1 <= options.n_best <= (options.beam_size or options.n_best):
        raise InputError(
            "--n-best must be from 1 to the beam size; "
            f"got --n-best {options.n_best}, --beam-size {options.beam_size}."
        )
    translator = _load_translator(options.run, options.beam_size)
    if options.n_best > translator.decoding.beam_size:
        raise InputError(
            f"--n-best must be at most the run's beam size, {translator.decoding.beam_size}; "
            f"got {options.n_best}. Give a larger --beam-size."
        )
    done = cut = 0
    for lines in _blocks(sys.stdin.fileno()):
        for translations in translate_lines(
            translator, lines, batch_size=options.batch_size, n_best=options.n_best
        ):
            print("\n".join(translations))
        sys.stdout.flush()
        cut += _count_cut(translator, lines)
        done += len(lines)
        print(f"{done} lines translated", end="\r", file=sys.stderr, flush=True)
    print(f"{done} lines translated.", file=sys.stderr)
    _report_cut(translator, cut)


def _blocks(descriptor: int) -> Iterator[list[str]]:
    """Reads a stream as it comes: every block is the whole lines that are there by now."""
    number, rest = 0, b""
    while True:
        data = os.read(descriptor, _READ_BYTES)
        *whole, rest = (rest + data).split(b"\n")
        if not data and rest:  # The last line has no end.
            whole, rest = [rest], b""
        if whole:
            yield [
                decode_line(line, "standard input", number + i + 1) for i, line in enumerate(whole)
            ]
            number += len(whole)
        if not data:
            return


def _count_cut(translator: Translator, lines: list[str]) -> int:
    tokens = translator.count_tokens(tf.constant(lines)).numpy()
    return int((tokens > translator.model.max_length).sum())


def _report_cut(translator: Translator, cut: int) -> None:
    if cut:
        _log.warning("%s texts were cut to %s tokens.", cut, translator.model.max_length)


def _load_translator(path: str, beam_size: int | None) -> Translator:
    run = load_run(path)
    decoding = run.config.decoding
    if beam_size is not None:
        decoding = dataclasses.replace(decoding, beam_size=beam_size)
    return Translator(run.model, run.tokenizer, decoding)


def evaluate(options: argparse.Namespace) -> None:
    """Translates a file and prints its BLEU and chrF as one JSON line."""
    sources, references = list(read_lines(options.source)), list(read_lines(options.reference))
    _check_sides(sources, references, options.source, options.reference)
    translator = _load_translator(options.run, options.beam_size)
    outputs = [
        best for (best,) in translate_lines(translator, sources, batch_size=options.batch_size)
    ]
    _report_cut(translator, _count_cut(translator, sources))
    bleu, chrf = sacrebleu.BLEU(tokenize=options.tokenize), sacrebleu.CHRF()
    result = {
        "bleu": round(bleu.corpus_score(outputs, [references]).score, 2),
        "chrf": round(chrf.corpus_score(outputs, [references]).score, 2),
        "signature": str(bleu.get_signature()),
        "sentences": len(sources),
        "exact_match": round(sum(map(str.__eq__, outputs, references)) / len(sources), 4),
    }
    print(json.dumps(result))


def _check_sides(first: list[str], second: list[str], *names: str) -> None:
    if len(first) != len(second):
        raise InputError(
            f"{names[0]} and {names[1]} must have the same number of lines; "
            f"got {len(first)} and {len(second)}."
        )
    if not first:
        raise InputError(f"{names[0]} is empty.")


def score(options: argparse.Namespace) -> None:
    """Prints each pair's log-probability and number of tokens."""
    sources, targets = list(read_lines(options.source)), list(read_lines(options.target))
    _check_sides(sources, targets, options.source, options.target)
    translator = _load_translator(options.run, None)
    for i in range(0, len(sources), options.batch_size):
        chosen = slice(i, i + options.batch_size)
        scores = translator.score(tf.constant(sources[chosen]), tf.constant(targets[chosen]))
        for value, tokens in zip(
            scores["log_probability"].numpy(), scores["tokens"].numpy(), strict=True
        ):
            print(f"{value:.4f}\t{tokens}")
    _report_cut(translator, _count_cut(translator, sources) + _count_cut(translator, targets))


def export(options: argparse.Namespace) -> None:
    """Writes a run as a SavedModel and prints its folder."""
    translator = _load_translator(options.run, options.beam_size)
    print(export_saved_model(translator, options.output))
