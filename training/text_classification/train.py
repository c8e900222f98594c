"""Fine-tunes a published text encoder to tell the subject that was taken out of a caption.

    python -m training.text_classification.train MODEL --text FILE --validation FILE --test FILE \
        --output RUN

MODEL is a text encoder that `ktransformer.load` opens, such as the folder of all-MiniLM-L6-v2.
From each number of training captions the same classifier is trained twice: from the encoder's
weights and from random ones. Of each training the epoch with the best accuracy on the validation
captions is kept; RUN is the best fine-tuned one. The README has the results.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

import keras
import numpy as np

from ktransformer.cli.progress import log_to_stderr
from ktransformer.errors import InputError
from ktransformer.files import check_new_folder
from ktransformer.models import SequenceClassifier, TextEncoder
from ktransformer.runtime.allocator import keep_freed_memory
from ktransformer.tasks import Task, TextClassifier, folder_kind, save
from ktransformer.text import read_lines
from training.programs import exit_status
from training.text_classification.captions import SUBJECTS, Captions, take_out_subjects

BATCH_SIZE = 32
EPOCHS = {"published": 4, "random": 10}
LEARNING_RATES = {"published": 5e-5, "random": 3e-4}
WARMUP = 0.1  # Share of the updates.


class Ids(NamedTuple):
    """Captions as ids `[N, T]`, and their labels `[N]`."""

    ids: np.ndarray
    labels: np.ndarray


def main() -> int:
    """Runs the trainings; returns the exit status."""
    keep_freed_memory()
    log_to_stderr()
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="folder of a published text encoder")
    for name in ("text", "validation", "test"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help="English captions")
    parser.add_argument("--output", required=True, metavar="RUN", help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace RUN if it is there")
    parser.add_argument(
        "--examples", type=int, nargs="+", default=[500, 2000], help="training captions"
    )
    parser.add_argument("--max-length", type=int, default=32, help="tokens read of a caption")
    parser.add_argument("--seed", type=int, default=1, help="of the captions, the head and dropout")
    options = parser.parse_args()
    return exit_status("train", lambda: train(options))


def train(options: argparse.Namespace) -> None:
    """Trains and scores the classifiers, and writes the best fine-tuned one."""
    kind = folder_kind(TextClassifier)
    check_new_folder(options.output, overwrite=options.overwrite, kind=kind)
    task = ktransformer.load(options.model)
    if not isinstance(task.model, TextEncoder):
        raise InputError(f"MODEL must be a text encoder; {options.model} is a {task.kind}.")
    parts = [
        take_out_subjects(read_lines(path))
        for path in (options.text, options.validation, options.test)
    ]
    texts, validation, test = (encode(task, part, options.max_length) for part in parts)
    order = np.random.default_rng(options.seed).permutation(len(texts.labels))
    best = (0.0, None)
    most_common = np.bincount(texts.labels).argmax()
    print("| captions | weights | epoch | validation | test | minutes |\n" + "| --- " * 6 + "|")
    print(f"| | most common subject | | | {np.mean(test.labels == most_common):.3f} | |")
    for count in options.examples:
        chosen = order[:count]
        some = Ids(texts.ids[chosen], texts.labels[chosen])
        for weights in ("published", "random"):
            keras.utils.set_random_seed(options.seed)
            model = make_classifier(task.model, weights)
            start = time.monotonic()
            epoch, accuracy = fit(model, some, validation, weights)
            minutes = (time.monotonic() - start) / 60
            result = score(model, test)
            print(
                f"| {len(chosen):,} | {weights} | {epoch} | {accuracy:.3f} | {result:.3f} "
                f"| {minutes:.1f} |",
                flush=True,
            )
            if weights == "published" and accuracy > best[0]:
                best = accuracy, model
    classifier = TextClassifier(best[1], task.tokenizer, SUBJECTS, options.max_length)
    save(classifier, options.output, overwrite=options.overwrite)


def encode(task: Task, captions: Captions, max_length: int) -> Ids:
    """Turns captions into ids of one length."""
    ids = task.tokenizer.encode_dense(captions.texts, max_length)[0].numpy()
    pad = task.tokenizer.special_ids.pad
    padding = [(0, 0), (0, max_length - ids.shape[1])]
    return Ids(np.pad(ids, padding, constant_values=pad), np.array(captions.labels))


def make_classifier(encoder: TextEncoder, weights: str) -> SequenceClassifier:
    """Creates a classifier with the encoder's sizes, and with its weights or random ones."""
    model = SequenceClassifier.from_encoder(encoder, len(SUBJECTS), pooling="mean")
    if weights == "published":
        return model
    fresh = SequenceClassifier.from_config(model.get_config())
    fresh.build()
    return fresh


def fit(model: SequenceClassifier, text: Ids, validation: Ids, weights: str) -> tuple[int, float]:
    """Trains a classifier, and keeps the weights of the epoch that is best on validation.

    Returns:
        That epoch and its accuracy on the validation captions.
    """
    epochs = EPOCHS[weights]
    updates = epochs * -(-len(text.labels) // BATCH_SIZE)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        updates,
        warmup_target=LEARNING_RATES[weights],
        warmup_steps=int(WARMUP * updates),
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01, clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "best.weights.h5"
        keep = keras.callbacks.ModelCheckpoint(
            path, monitor="val_accuracy", save_best_only=True, save_weights_only=True
        )
        history = model.fit(
            {"ids": text.ids},
            text.labels,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            validation_data=({"ids": validation.ids}, validation.labels),
            callbacks=[keep],
            verbose=0,
        ).history["val_accuracy"]
        model.load_weights(path)
    return int(np.argmax(history)) + 1, max(history)


def score(model: SequenceClassifier, test: Ids) -> float:
    """Returns the share of captions whose subject is told."""
    logits = model.predict({"ids": test.ids}, batch_size=BATCH_SIZE, verbose=0)
    return float(np.mean(logits.argmax(axis=1) == test.labels))


if __name__ == "__main__":
    sys.exit(main())
