"""What each command does: one function a command, on parsed arguments."""

import argparse
import contextlib
import json
import logging
import os
import stat
import sys
from typing import Any

import tensorflow as tf

from ktransformer import fitting
from ktransformer.cli.progress import Progress
from ktransformer.config import Config, read_settings, split_settings
from ktransformer.engines import Engine, translate_blocks, translate_lines
from ktransformer.engines.opening import available_cores, load_engine, load_translator
from ktransformer.errors import InputError, did_you_mean
from ktransformer.files import resolve
from ktransformer.fitting.pruning import count_pieces, prune_run
from ktransformer.models import PRESETS
from ktransformer.saving.run import check_run_path, is_run, load_run, save_run
from ktransformer.scores import score_texts
from ktransformer.text import open_parallel, read_lines, read_parallel
from ktransformer.text.line_blocks import read_blocks
from ktransformer.text.line_limits import cut_line
from ktransformer.text.unknown_characters import UnknownCharacters

_log = logging.getLogger(__name__)


def train(options: argparse.Namespace) -> None:
    """Trains a model on parallel text and writes its run."""
    if options.preset not in PRESETS:
        raise InputError(
            f"--preset must be one of {', '.join(PRESETS)}; got {options.preset!r}."
            + did_you_mean(options.preset, PRESETS)
        )
    if bool(options.validation_source) != bool(options.validation_target):
        raise InputError("--validation-source and --validation-target go together; got one.")
    settings = read_settings(options.config) if options.config else {}
    config = Config().replace(
        {**PRESETS[options.preset], **settings, **split_settings(options.set)}
    )
    output = resolve(options.output)
    if options.resume and is_run(output) and not options.overwrite:
        raise InputError(
            f"{output} already exists: if it is of this training, that is over; if it is not, "
            "add --overwrite."
        )
    check_run_path(output, overwrite=options.overwrite)
    checkpoints = resolve(output.with_name(f"{output.name}.checkpoints"))
    saved = False
    begins = not (options.resume or options.overwrite)
    if begins:
        fitting.check_unused(checkpoints)
    elif not options.resume:
        fitting.check_removable(checkpoints)
    one_or_more: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if options.devices > 1:
        one_or_more = fitting.mirrored_strategy(options.devices).scope()
    text = open_parallel(options.source, options.target, max_pairs=config.data.shard_pairs)
    validation = None
    if options.validation_source:
        validation = read_parallel(options.validation_source, options.validation_target)
    try:
        with fitting.lock_checkpoints(checkpoints, unused=begins) as locked:
            start = fitting.Resume() if options.resume else fitting.Fresh()
            with one_or_more:
                run = fitting.train(config, text, validation, checkpoints=locked, start=start)
            save_run(run, output, overwrite=options.overwrite)
            saved = True
            fitting.remove_checkpoints(checkpoints)
    except (KeyboardInterrupt, InputError, OSError) as error:
        if checkpoints.is_dir() and not (saved or isinstance(error, InputError)):
            _log.info("The training's state is in %s; --resume goes on from it.", checkpoints)
        raise
    _log.info("Wrote %s.", output)


def translate(options: argparse.Namespace) -> None:
    """Translates stdin to stdout, a line for a line, in order."""
    engine = _load_engine(options)
    engine.find_signature(options.n_best)
    descriptor = sys.stdin.fileno()
    progress = Progress(sys.stderr, _bytes_ahead(descriptor))
    cut = 0
    unknown = UnknownCharacters(engine.description.characters)
    for translations in translate_blocks(
        engine,
        unknown.watch(read_blocks(descriptor, "standard input")),
        batch_size=options.batch_size,
        n_best=options.n_best,
        on_batch=progress.add,
    ):
        for translation in translations:
            print("\n".join(map(_one_line, translation.texts)))
            cut += translation.truncated
        sys.stdout.flush()
    progress.finish()
    _report_cut(cut, engine.description.max_source_length)
    _report_unknown(unknown)


def _one_line(text: str) -> str:
    """Keeps a translation on its line, whatever a model of bytes spells."""
    return text.replace("\n", " ").replace("\r", " ")


def _bytes_ahead(descriptor: int) -> int | None:
    """Returns how much of a regular file is left to read; None for a pipe or a terminal."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    return status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR)


def set_threads(threads: int | None) -> None:
    """Limits TensorFlow's threads, which is possible until its first operation."""
    if threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)


def _load_engine(options: argparse.Namespace) -> Engine:
    """Opens what translates many lines: a batch on each thread, not all threads on a batch."""
    with contextlib.suppress(RuntimeError):  # TensorFlow runs already, with threads of its own.
        set_threads(1)
    return load_engine(
        options.model,
        beam_size=options.beam_size,
        length_penalty=options.length_penalty,
        threads=1,
        concurrency=options.threads or available_cores(),
    )


def _report_cut(cut: int, limit: int) -> None:
    if cut:
        _log.warning("%s texts were cut to %s tokens.", cut, limit)


def _report_unknown(unknown: UnknownCharacters) -> None:
    if unknown.texts:
        _log.warning("%s", unknown)


def evaluate(options: argparse.Namespace) -> None:
    """Translates a file and prints its BLEU, chrF and exact matches as one JSON line."""
    sources, references = list(read_lines(options.source)), list(read_lines(options.reference))
    check_sides(sources, references, options.source, options.reference)
    engine = _load_engine(options)
    translations = translate_lines(engine, sources, batch_size=options.batch_size)
    outputs = [translation.text for translation in translations]
    cut = sum(translation.truncated for translation in translations)
    _report_cut(cut, engine.description.max_source_length)
    unknown = UnknownCharacters(engine.description.characters)
    unknown.add(sources)
    _report_unknown(unknown)
    scores = score_texts(outputs, references, tokenize=options.tokenize)
    result = {
        "bleu": round(scores.bleu, 2),
        "chrf": round(scores.chrf, 2),
        "signature": scores.signature,
        "sentences": len(sources),
        "exact_match": round(scores.exact_match, 4),
    }
    print(json.dumps(result))


def check_sides(first: list[str], second: list[str], *names: str) -> None:
    """Checks that two files are as long as each other and not empty; `names` are theirs."""
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
    check_sides(sources, targets, options.source, options.target)
    translator = load_translator(options.run)
    cut = 0
    for i in range(0, len(sources), options.batch_size):
        chosen = slice(i, i + options.batch_size)
        scores = translator.score(
            tf.constant([cut_line(text, translator.max_source_length) for text in sources[chosen]]),
            tf.constant([cut_line(text, translator.max_target_length) for text in targets[chosen]]),
        )
        cut += int(scores["truncated"].numpy().sum())
        for value, tokens in zip(
            scores["log_probability"].numpy(), scores["tokens"].numpy(), strict=True
        ):
            print(f"{value:.4f}\t{tokens}")
    if cut:
        _log.warning(
            "%s pairs were cut: a source to %s tokens or a target to %s.",
            cut,
            translator.max_source_length,
            translator.max_target_length,
        )


def prune(options: argparse.Namespace) -> None:
    """Writes a run whose vocabulary is cut to a corpus, and says how much smaller it is."""
    output = resolve(options.output)
    check_run_path(output, overwrite=options.overwrite)
    texts = list(read_lines(options.corpus))
    run = load_run(options.run)
    pruned = prune_run(run, texts, min_count=options.min_count)
    save_run(pruned, output, overwrite=options.overwrite)
    for name, before, after in (
        ("pieces", run.tokenizer.vocabulary_size, pruned.tokenizer.vocabulary_size),
        ("parameters", run.model.count_params(), pruned.model.count_params()),
        ("tokens of the corpus", *(count_pieces(r.tokenizer, texts).sum() for r in (run, pruned))),
    ):
        print(f"{name}: {before:,} -> {after:,}")
    _log.info("Wrote %s.", output)
