"""What `export` and `verify` do, on parsed arguments, for every kind of model."""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from ktransformer.cli.arguments import SHORTLIST_PAIRS, SHORTLIST_PIECES
from ktransformer.cli.commands import check_sides, set_threads
from ktransformer.config import BatchingConfig
from ktransformer.engines.opening import available_cores
from ktransformer.errors import InputError, printable
from ktransformer.exporting import export_lite, export_saved_model, tokenizer_beside
from ktransformer.files import check_new_file, json_text, new_file
from ktransformer.saving.run import is_run
from ktransformer.tasks import MaskFiller, Shortlist, Task, Translator, load, with_article
from ktransformer.text import ParallelFiles, Tokenizer, read_lines, survey_files
from ktransformer.text.lexicon import train_lexicon
from ktransformer.verification import parity, translators
from ktransformer.verification.tolerances import Tolerances, check_demands

_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")


def export(options: argparse.Namespace) -> None:
    """Writes a trained model as a SavedModel or a .tflite and prints its path."""
    lite = options.format == "tflite"
    for_lite = (options.quantize != "none", options.signatures, options.batch_size)
    if not lite and (any(for_lite) or options.overwrite):
        raise InputError(
            "--quantize, --signatures, --batch-size and --overwrite go with --format tflite."
        )
    batching = _batching(options)
    if lite:
        if batching is not None:
            raise InputError(
                "--batch-requests goes with a SavedModel: a .tflite has one caller at a time."
            )
        for path in (options.output, tokenizer_beside(options.output)):
            check_new_file(path, overwrite=options.overwrite)
    task, labels = _load_for_export(options)
    if lite:
        path = export_lite(
            task,
            options.output,
            signatures=options.signatures,
            quantization=options.quantize,
            batch_size=options.batch_size,
            overwrite=options.overwrite,
            **labels,
        )
    else:
        path = export_saved_model(task, options.output, batching=batching, **labels)
    print(printable(path) if sys.stdout.isatty() else path)  # A pipe gets the very bytes.


def _batching(options: argparse.Namespace) -> BatchingConfig | None:
    """Returns how the export is to join concurrent requests, None for not at all."""
    settings = {"timeout_ms": options.batch_timeout_ms, "threads": options.batch_threads}
    given = {name: value for name, value in settings.items() if value is not None}
    if options.batch_requests is not None:
        if options.shortlist is not None:
            raise InputError(
                "--shortlist does not go with --batch-requests: a text's translation would depend "
                "on the texts of other callers."
            )
        return BatchingConfig(max_texts=options.batch_requests, **given)
    if given:
        raise InputError("--batch-timeout-ms and --batch-threads go with --batch-requests.")
    return None


def _load_for_export(options: argparse.Namespace) -> tuple[Task, dict[str, str]]:
    """Opens the model, with a translator's decoding settings and labels where they are given."""
    decoding = {
        name: getattr(options, name)
        for name in ("beam_size", "length_penalty", "max_source_length", "max_target_length")
    }
    labels = {"source_label": options.source_label, "target_label": options.target_label}
    if options.shortlist_size is not None and options.shortlist is None:
        raise InputError("--shortlist-size goes with --shortlist.")
    task: Any = load(options.run)
    if options.top_k is not None:
        if not isinstance(task, MaskFiller):
            raise _misplaced(options.run, task, "--top-k goes with a masked language model")
        task = MaskFiller(task.model, task.tokenizer, options.top_k)
    if isinstance(task, Translator):
        changes = {name: value for name, value in decoding.items() if value is not None}
        searching = dataclasses.replace(task.decoding, **changes)
        shortlist = _shortlist(options, task.tokenizer)
        return Translator(task.model, task.tokenizer, searching, shortlist), labels
    if options.shortlist is not None:
        raise _misplaced(options.run, task, "--shortlist goes with a translator")
    if any(value is not None for value in decoding.values()) or any(labels.values()):
        given = ", ".join(f"--{name.replace('_', '-')}" for name in decoding)
        raise _misplaced(options.run, task, f"{given} and the labels go with a translator")
    return task, {}


def _shortlist(options: argparse.Namespace, tokenizer: Tokenizer) -> Shortlist | None:
    """Learns from parallel text what a search may leave out; None where nothing is to be."""
    if options.shortlist is None:
        return None
    files = ParallelFiles(*options.shortlist)
    text = survey_files(files, sample_pairs=SHORTLIST_PAIRS).sample
    sources, targets = map(tokenizer.encode_lines, (text.sources, text.targets))
    lexicon = train_lexicon(sources, targets, tokenizer.vocabulary_size)
    return Shortlist(lexicon, options.shortlist_size or SHORTLIST_PIECES)


def _misplaced(run: str, task: Task, rule: str) -> InputError:
    return InputError(f"{run} is {with_article(task.kind)}: {rule}.")


def verify(options: argparse.Namespace) -> int:
    """Compares exports with their model on a file; 1 where a tolerance is broken."""
    set_threads(options.threads)
    if options.json:
        check_new_file(options.json, overwrite=True)
    if options.max_bleu_drop is not None and not options.reference:
        raise InputError("--max-bleu-drop goes with --reference.")
    names = ("min_identical", "max_score_difference", "max_bleu_drop")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    tolerances = Tolerances(**given)
    if not is_run(options.run):
        return _verify_other(options, tolerances)
    sources = list(read_lines(options.source))
    references = None
    if options.reference:
        references = list(read_lines(options.reference))
        check_sides(sources, references, options.source, options.reference)
    report = translators.verify(
        options.exports,
        options.run,
        sources,
        references,
        tolerances=tolerances,
        threads=options.threads,
        batch_size=options.batch_size,
    )
    print(report.to_text(differences=options.differences))
    if options.json:
        with new_file(options.json) as file:
            file.write_text(report.to_json(), encoding="utf-8")
    return 1 if report.broken else 0


def _verify_other(options: argparse.Namespace, tolerances: Tolerances) -> int:
    """Compares exports of a masked language model or of an image classifier with it."""
    task = load(options.run)
    if options.reference:
        raise InputError(
            f"{options.run} is {with_article(task.kind)}: --reference goes with a translator."
        )
    settings: dict[str, Any] = {"batch_size": options.batch_size, "tolerances": tolerances}
    threads = options.threads or available_cores()
    exports = [parity.Export(path, threads) for path in options.exports]
    for export in exports:
        _check_origin(export, task, options.run)
        check_demands(export.model.path, export.model.description, tolerances)
    if isinstance(task, MaskFiller):
        texts = list(read_lines(options.source))
        counts = {export.model.description.top_k for export in exports}
        if len(counts) > 1:
            raise InputError("The exports give different numbers of fills: verify them one by one.")
        task = MaskFiller(task.model, task.tokenizer, counts.pop())
        results = parity.verify_mask_filler(task, exports, texts, **settings)
    else:
        paths = _find_images(options.source)
        results = parity.verify_image_classifier(task, exports, paths, **settings)
    print(parity.parity_table(results))
    if options.json:
        with new_file(options.json) as file:
            rows = [dataclasses.asdict(result) for result in results]
            file.write_text(json_text(rows), encoding="utf-8")
    return 1 if any(result.broken for result in results) else 0


def _check_origin(export: parity.Export, task: Task, run: str) -> None:
    """Refuses an export of another kind, or of a model with other pieces or classes."""
    about, expected = export.model.description, task.describe(())
    if about.kind != expected.kind:
        raise InputError(
            f"{export.model.path} is {with_article(about.kind)}, "
            f"not {with_article(expected.kind)} as {run} is."
        )
    for name in ("tokenizer_sha256", "max_length", "classes", "image_size", "channels"):
        if getattr(about, name, None) != getattr(expected, name, None):
            raise InputError(f"{export.model.path} has another {name} than {run}: not of it.")


def _find_images(folder: str) -> list[Path]:
    """Lists all images in a folder and its subfolders, in the order of their names."""
    files = [path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in _IMAGES]
    if not files:
        raise InputError(f"{folder} holds no image ({', '.join(_IMAGES)}).")
    return files
