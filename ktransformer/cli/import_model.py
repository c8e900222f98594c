"""`ktransformer import`: turns a published model into a folder of ours."""

import argparse
import logging

HELP = "turn a published model into a run"
EXAMPLE = "ktransformer import opus-mt-de-en --output runs/de-en"
_log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="a model in Hugging Face's layout: config.json, safetensors or pytorch_model.bin, and "
        "its tokenizer's files; it is read as data, nothing in it is run",
    )
    parser.add_argument("--output", required=True, metavar="RUN", help="folder to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace that RUN if it is there (default: refuse)"
    )


def run(options: argparse.Namespace) -> None:
    """Writes the converted model and prints its kind and size."""
    from ktransformer.conversion import import_published
    from ktransformer.files import resolve
    from ktransformer.saving.run import check_run_path

    output = resolve(options.output)
    if not options.overwrite:
        check_run_path(output)  # Before any work; `save` knows what may be replaced.
    imported = import_published(options.folder)
    imported.save(output, overwrite=options.overwrite)
    for note in imported.notes:
        _log.warning("%s", note)
    task = imported.task
    print(f"{task.kind}: {task.model.count_params():,} parameters")
    _log.info("Wrote %s.", output)
