"""Makes what the benchmark of training trains on: real batches of Multi30k."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.benchmark.needs import find_text
from ktransformer.errors import InputError
from ktransformer.files import FolderKind, new_file, new_folder
from ktransformer.fitting.training_text import digest_text
from ktransformer.models import Transformer
from ktransformer.text import TokenBatches, Tokenizer, read_parallel
from training.benchmark.training_registry import SIZES
from training.benchmark.training_workload import Batch, TrainingWorkload

PIECES = 10_000  # Also where the model's vocabulary is larger.
MAX_LENGTH = 128
DROPOUT, LABEL_SMOOTHING = 0.1, 0.1
KIND = FolderKind("a workload's folder", (r"workload\.json", r"batches\.npz"))


def prepare(size: str, options: argparse.Namespace, folder: Path, count: int) -> None:
    """Writes the workload of a size to a folder.

    Args:
        size: A preset of our model, in `SIZES`.
        options: `data`, `batch_tokens`.
        folder: Where to; a workload that is there is replaced.
        count: The number of batches.
    """
    sizes = {**Transformer.presets[size], "vocabulary_size": SIZES[size], "max_length": MAX_LENGTH}
    batches = choose(options.data, folder.parent, options.batch_tokens, count)
    with new_folder(folder, overwrite=True, kind=KIND) as new:
        TrainingWorkload(sizes, DROPOUT, LABEL_SMOOTHING, batches).save(new)


def choose(data: Path, cache: Path, batch_tokens: int, count: int) -> Sequence[Batch]:
    """Returns batches of an epoch, evenly drawn from all full ones by their length."""
    paths = [find_text(data, f"train.{language}") for language in ("en", "de")]
    text = read_parallel(*paths)
    model = cache / f"tokenizer-{digest_text(text)[:16]}.model"
    if not model.is_file():
        with new_file(model) as temporary:
            Tokenizer.train([*text.sources, *text.targets], PIECES).save(temporary)
    tokenizer = Tokenizer.load(model)
    sides = (tokenizer.encode_lines(side) for side in (text.sources, text.targets))
    max_length = min(MAX_LENGTH, batch_tokens)
    epoch = TokenBatches(*sides, batch_tokens=batch_tokens, max_length=max_length).epoch(0)
    # In a row of padding alone, PyTorch's attention gives NaN.
    full = [
        (inputs["source"], inputs["target"], labels)
        for inputs, labels in epoch
        if np.all(labels[:, 0])
    ]
    if len(full) < count:
        raise InputError(f"The text makes {len(full)} full batches; {count} are asked for.")
    full.sort(key=lambda batch: batch[0].shape[1])
    return [full[int((i + 0.5) * len(full) / count)] for i in range(count)]
