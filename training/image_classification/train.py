"""Trains a vision Transformer to classify images, from one seed or several.

    python -m training.image_classification.train --data digits --output runs/digits

from the repository's root; `--help` lists the options.

Data: scikit-learn's digits, 1,797 images of 8 x 8 pixels, 359 of them held out.
Hardware: one thread on two shared x86-64 cores, no GPU (AMD EPYC, 2026-11-24).
Time: 98 to 105 s of processor time a seed, refit included.
Score: accuracy 0.9833 +- 0.0060 on the 359 held-out images, mean of three seeds.
"""

import argparse
import dataclasses
import logging
import sys
import time
from pathlib import Path
from typing import Any

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

import numpy as np
import tensorflow as tf

from ktransformer.cli.progress import log_to_stderr
from ktransformer.config import read_settings
from ktransformer.errors import InputError
from ktransformer.files import FolderKind, check_new_folder, json_text, new_folder, resolve
from ktransformer.models import VisionTransformer
from ktransformer.runtime.allocator import keep_freed_memory
from ktransformer.tasks import ImageClassifier
from ktransformer.tasks.folder import folder_files, write
from training.image_classification.fit import Settings, accuracy, fit, make_model
from training.image_classification.images import KERAS_DATA, Images, Parts, load
from training.image_classification.pictures import draw_attention, draw_curves
from training.programs import exit_status

HERE = Path(__file__).parent
KIND = FolderKind(
    "a classifier's folder",
    (
        *folder_files(ImageClassifier),
        r"(settings|history)\.json",
        r"(curves|attention)\.png",
        r"examples/.+/\d{4,}\.png",
    ),
    required=("model.keras", "classes.json"),
)
_log = logging.getLogger("ktransformer.image_classification")


@dataclasses.dataclass(frozen=True)
class Trained:
    """What came of one seed."""

    model: VisionTransformer
    """The final one: after a refit, the one that saw the validation images as well."""
    history: dict[str, Any]
    """By epoch, of the training that was watched on the validation images."""
    validation: float
    """Share of right classes on the validation images, of the model that did not see them."""
    test: float
    """Share of right classes on the held-out images, of the final model."""


def main() -> int:
    keep_freed_memory()
    options = parse_arguments()
    log_to_stderr()
    return exit_status("train", lambda: train(options))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train a vision Transformer to classify images.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--data",
        required=True,
        help=f"digits, a folder with a subfolder of images a class, or {', '.join(KERAS_DATA)} "
        "(downloaded)",
    )
    parser.add_argument("--output", required=True, metavar="RUN", help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace RUN if it is there")
    Settings.add_arguments(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a model each")
    return parser.parse_args()


def train(options: argparse.Namespace) -> None:
    """Trains a model a seed, and writes the one that is best on the validation images."""
    settings = read_all_settings(options)
    if not all(0 <= seed < 2**28 for seed in options.seeds):
        raise InputError(f"--seeds must be from 0 to {2**28 - 1}; got {options.seeds}.")
    data, output = Path(options.data).resolve(), resolve(options.output)
    if data.is_dir() and output in data.parents:
        raise InputError(f"{options.output} holds the images of --data; name another folder.")
    check_new_folder(output, overwrite=options.overwrite, kind=KIND)
    parts = load(options.data, settings.image_size, settings.channels, settings.split_seed)
    parameters = make_model(settings, len(parts.classes)).count_params()
    print(
        f"{len(parts.classes)} classes; {len(parts.train):,} images to train on, "
        f"{len(parts.validation):,} for validation, {len(parts.test):,} held out; "
        f"{parameters:,} parameters"
    )
    trained = {seed: train_seed(settings, parts, seed) for seed in dict.fromkeys(options.seeds)}
    with new_folder(options.output, overwrite=options.overwrite, kind=KIND) as folder:
        write_run(folder, settings, parts, trained)
    print(f"The model, its classes and two pictures: {options.output}")
    print(summary([result.test for result in trained.values()], len(parts.test)))


def summary(scores: list[float], count: int) -> str:
    """Says the mean and the standard deviation of the seeds' scores on `count` images."""
    seeds = "1 seed" if len(scores) == 1 else f"{len(scores)} seeds"
    return (
        f"accuracy {np.mean(scores):.4f} +- {np.std(scores):.4f} on {count:,} held-out images "
        f"(mean and standard deviation of {seeds})"
    )


def read_all_settings(options: argparse.Namespace) -> Settings:
    """Returns the defaults, changed by digits.yaml, `--config` and `--set`, in this order."""
    digits = read_settings(HERE / "digits.yaml") if options.data == "digits" else {}
    return Settings.from_arguments(options, **digits)


def train_seed(settings: Settings, parts: Parts, seed: int) -> Trained:
    """Trains one seed's model and looks at the held-out images, once."""
    _log.info("seed %d", seed)
    start, start_of_cpu = time.monotonic(), time.process_time()
    count = len(parts.classes)
    model, history = fit(settings, count, parts.train, parts.validation, seed=seed)
    validation = accuracy(model, parts.validation)
    if settings.refit:
        _log.info("seed %d, anew on training and validation images", seed)
        model, _ = fit(settings, count, parts.train + parts.validation, seed=seed)
    seconds, cpu_seconds = time.monotonic() - start, time.process_time() - start_of_cpu
    result = Trained(model, history, validation, accuracy(model, parts.test))
    print(
        f"seed {seed}: {result.test:.4f} on the held-out images, {validation:.4f} on "
        f"validation; trained in {seconds:.0f} s ({cpu_seconds:.0f} s of processor time)",
        flush=True,
    )
    return result


def write_run(folder: Path, settings: Settings, parts: Parts, trained: dict[int, Trained]) -> None:
    """Writes the best model with the names of its classes, records and pictures."""
    best = max(trained.values(), key=lambda result: result.validation)
    write(ImageClassifier(best.model, parts.classes), folder)
    write_json(folder / "settings.json", dataclasses.asdict(settings))
    histories = {seed: result.history for seed, result in trained.items()}
    write_json(folder / "history.json", histories)
    draw_curves(histories, folder / "curves.png")
    chosen = first_of_each_class(parts.test, min(8, len(parts.classes)), 1)
    draw_attention(best.model, chosen, parts.classes, folder / "attention.png")
    write_examples(first_of_each_class(parts.test, len(parts.classes), 20), parts, folder)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json_text(content), encoding="utf-8")


def first_of_each_class(images: Images, num_classes: int, at_most: int) -> Images:
    """Returns the first images of each class, in the classes' order."""
    firsts = [np.flatnonzero(images.labels == label)[:at_most] for label in range(num_classes)]
    return images.take(np.concatenate(firsts))


def write_examples(images: Images, parts: Parts, folder: Path) -> None:
    """Writes images as `examples/CLASS/NUMBER.png`, to try an export on."""
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        path = folder / "examples" / parts.classes[label] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(pixels).numpy())


if __name__ == "__main__":
    sys.exit(main())
