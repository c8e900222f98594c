"""`ktransformer verify`: compares exports with their model."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktransformer.cli.options import A_PROGRAM, add_batch_size, add_threads, count
from ktransformer.errors import InputError

if TYPE_CHECKING:
    from ktransformer.tasks import Servable
    from ktransformer.verification.parity import Export
    from ktransformer.verification.tolerances import Tolerances

_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp")
HELP = "compare exports with the model that they were made from"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "exports",
        nargs="+",
        metavar="EXPORT",
        help=f"folder of a SavedModel, or .tflite file; {A_PROGRAM}",
    )
    parser.add_argument(
        "--run",
        required=True,
        metavar="RUN",
        help="folder of the trained run, masked language model or image classifier",
    )
    parser.add_argument(
        "--source",
        required=True,
        metavar="FILE",
        help="texts; for an image classifier a folder of images",
    )
    parser.add_argument("--reference", metavar="FILE", help="their translations, for BLEU")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the report there, too; a file that is there is replaced",
    )
    parser.add_argument(
        "--differences", type=count, default=3, metavar="N", help="texts to show for each export"
    )
    for name, text in (
        ("--min-identical", "least share of identical texts (default for float32: 0.999)"),
        ("--max-score-difference", "between identical texts' scores (default for float32: 0.001)"),
    ):
        parser.add_argument(name, type=float, metavar="X", help=text)
    parser.add_argument(
        "--max-bleu-drop",
        type=float,
        metavar="X",
        help="with --reference: BLEU points to lose at most (default: 0.3)",
    )
    add_batch_size(parser, default=1)
    add_threads(parser)


def run(options: argparse.Namespace) -> int:
    """Compares exports with their model on a file; 1 where a tolerance is broken."""
    from ktransformer.files import check_new_file, new_file
    from ktransformer.runtime.threads import set_threads
    from ktransformer.saving.run import is_run
    from ktransformer.text import read_aligned, read_lines
    from ktransformer.verification import translators
    from ktransformer.verification.tolerances import Tolerances

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
    if options.reference:
        sources, references = read_aligned(options.source, options.reference)
    else:
        sources, references = list(read_lines(options.source)), None
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


def _verify_other(options: argparse.Namespace, tolerances: "Tolerances") -> int:
    """Compares exports of a masked language model or of an image classifier with it."""
    from ktransformer.engines import available_cores
    from ktransformer.files import json_text, new_file
    from ktransformer.tasks import MaskFiller, with_article
    from ktransformer.tasks.folder import load_servable
    from ktransformer.text import read_lines
    from ktransformer.verification import parity
    from ktransformer.verification.tolerances import check_demands

    servable = load_servable(options.run)
    if options.reference:
        raise InputError(
            f"{options.run} is {with_article(servable.kind)}: --reference goes with a translator."
        )
    settings: dict[str, Any] = {"batch_size": options.batch_size, "tolerances": tolerances}
    threads = options.threads or available_cores()
    exports = [parity.Export(path, threads) for path in options.exports]
    for export in exports:
        _check_origin(export, servable, options.run)
        check_demands(export.model.path, export.model.description, tolerances)
    if isinstance(servable, MaskFiller):
        texts = list(read_lines(options.source))
        counts = {export.model.description.top_k for export in exports}
        if len(counts) > 1:
            raise InputError("The exports give different numbers of fills: verify them one by one.")
        servable = MaskFiller(servable.model, servable.tokenizer, counts.pop())
        results = parity.verify_mask_filler(servable, exports, texts, **settings)
    else:
        paths = _find_images(options.source)
        results = parity.verify_image_classifier(servable, exports, paths, **settings)
    print(parity.parity_table(results))
    if options.json:
        with new_file(options.json) as file:
            rows = [dataclasses.asdict(result) for result in results]
            file.write_text(json_text(rows), encoding="utf-8")
    return 1 if any(result.broken for result in results) else 0


def _check_origin(export: "Export", servable: "Servable", run: str) -> None:
    """Refuses an export of another kind, or of a model with other pieces or classes."""
    from ktransformer.tasks import with_article

    about, expected = export.model.description, servable.describe(())
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
