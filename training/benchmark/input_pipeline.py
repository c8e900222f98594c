"""Measures the input pipeline alone, on a generated text that does not fit into memory.

    .venv/bin/python -m training.benchmark.input_pipeline --folder FOLDER

It writes parallel text into FOLDER (gzipped files; sentences as long as Multi30k's), does what
`ktransformer train` does with a text of more than `shard_pairs` pairs, and reads whole epochs of
batches without a model. Then a model of the `tiny` preset takes some of the same batches, to tell
what training consumes. It prints Markdown: seconds and tokens a second of each phase, and the
resident memory along the way. What it gave: input_pipeline.md.
"""

import argparse
import gzip
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from ktransformer.config import Config, DataConfig
from ktransformer.fitting import compile_model
from ktransformer.models import Transformer
from ktransformer.text import (
    ParallelFiles,
    ParallelText,
    ShardedBatches,
    Shards,
    Tokenizer,
    open_parallel,
    survey_files,
    write_shards,
)

WORDS = 5_000  # Different words of each language.
# Words of a caption in Multi30k's training text: English, mean and deviation, and German's mean.
MEAN_WORDS, DEVIATION, GERMAN_MEAN = 11.9, 3.8, 11.1
WARM_UP_UPDATES = 20


def make_words(seed: int) -> np.ndarray:
    """Makes different words of one to four syllables, the frequent ones short."""
    random = np.random.default_rng(seed)
    syllables = [c + v for c in "bdfghklmnprstvwz" for v in ("a", "e", "i", "o", "u", "en", "er")]
    words: dict[str, None] = {}
    while len(words) < WORDS:
        count = 1 + min(int(4 * len(words) ** 0.25 / WORDS**0.25), 3)
        words["".join(random.choice(syllables, count))] = None
    return np.array(list(words), dtype=object)


def generate(folder: Path, pairs: int, files: int) -> None:
    """Writes so many pairs into so many files a side: `000.source.gz`, `000.target.gz`, ..."""
    sides = make_words(1), make_words(2)
    cumulated = np.cumsum(1 / (np.arange(WORDS) + 2.7))  # Zipf's law, as Mandelbrot corrected it.
    cumulated /= cumulated[-1]
    for file in range(files):
        random = np.random.default_rng([0, file])
        names = [folder / f"{file:03d}.{side}.gz" for side in ("source", "target")]
        rest = pairs // files + (file < pairs % files)
        with (
            gzip.open(names[0], "wb", compresslevel=1) as source,
            gzip.open(names[1], "wb", compresslevel=1) as target,
        ):
            while rest:
                count = min(rest, 20_000)
                lengths = random.normal(MEAN_WORDS, DEVIATION, count).round().clip(3, 40)
                ends = np.cumsum(lengths.astype(int))
                words = np.searchsorted(cumulated, random.random(ends[-1]))
                kept = random.random(ends[-1]) < GERMAN_MEAN / MEAN_WORDS
                kept[ends - 1] = True
                source.write(join_lines(sides[0][words], ends))
                target.write(join_lines(sides[1][words[kept]], np.cumsum(kept)[ends - 1]))
                rest -= count


def join_lines(words: np.ndarray, ends: np.ndarray) -> bytes:
    every = words.tolist()
    starts = [0, *ends[:-1].tolist()]
    lines = [" ".join(every[i:j]) for i, j in zip(starts, ends.tolist(), strict=True)]
    return ("\n".join(lines) + "\n").encode()


class Memory(threading.Thread):
    """Looks at this process's resident memory twenty times a second and keeps the most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._most = 0.0

    def run(self) -> None:
        while True:
            self._most = max(self._most, resident())
            time.sleep(0.05)

    def take(self) -> float:
        """Returns the most, in MiB, since it was last asked."""
        most, self._most = max(self._most, resident()), 0.0
        return most


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class Phase:
    """Counts what one phase has done, its seconds, and the memory of each tenth of it."""

    def __init__(self, name: str, memory: Memory, total: int = 0) -> None:
        self.name, self.memory, self.total = name, memory, total
        self.done = self.tokens = 0
        self.curve: list[float] = []
        self.seconds = 0.0
        memory.take()

    def __enter__(self) -> "Phase":
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        if not self.total:
            self.curve = [self.memory.take()]
        print(f"{self.name}: {self.seconds:.1f} s, {self.curve[-1]:.0f} MiB", file=sys.stderr)

    def add(self, count: int) -> None:
        """Counts what has been done, of `total`."""
        self.done += count
        while self.done * 10 >= self.total * (len(self.curve) + 1) and len(self.curve) < 10:
            self.curve.append(self.memory.take())


class WatchedFiles(ParallelFiles):
    """Counts the pairs that are read in a phase."""

    phase: Phase

    def blocks(self, max_pairs: int | None) -> Iterator[ParallelText]:
        for block in super().blocks(max_pairs):
            yield block
            self.phase.add(len(block))


def train(batches: ShardedBatches, tokenizer: Tokenizer, updates: int) -> tuple[float, int]:
    """Fits a tiny model to some batches; returns the seconds and the tokens of both sides."""
    config = Config()
    model = Transformer.from_preset("tiny", tokenizer.vocabulary_size)
    compile_model(model, config.training)
    options = {"epochs": 1, "shuffle": False, "verbose": 0}
    model.fit(batches.dataset(), steps_per_epoch=WARM_UP_UPDATES, **options)
    began = time.monotonic()
    model.fit(batches.dataset(WARM_UP_UPDATES), steps_per_epoch=updates, **options)
    seconds = time.monotonic() - began
    counted = batches.epoch(0, WARM_UP_UPDATES)
    tokens = sum(count_tokens(*next(counted)) for _ in range(updates))
    return seconds, tokens


def count_tokens(inputs: dict[str, np.ndarray], labels: np.ndarray) -> int:
    return int(np.count_nonzero(inputs["source"]) + np.count_nonzero(labels))


def measure(options: argparse.Namespace) -> None:
    folder, memory = options.folder, Memory()
    data = DataConfig(vocabulary_size=8000, batch_tokens=4096)
    sides = [sorted(folder.glob(f"*.{side}.gz")) for side in ("source", "target")]
    before = resident()
    memory.start()
    phases = [Phase("open: are there more than shard_pairs pairs?", memory)]
    with phases[-1]:
        files = open_parallel(*sides, max_pairs=options.shard_pairs)
    watched = WatchedFiles(*sides)
    phases.append(Phase("survey: count, digest, sample", memory, options.pairs))
    with phases[-1]:
        watched.phase = phases[-1]
        survey = survey_files(watched, sample_pairs=options.shard_pairs)
    phases.append(Phase(f"tokenizer, on {2 * len(survey.sample):,} lines", memory))
    with phases[-1]:
        lines = [*survey.sample.sources, *survey.sample.targets]
        tokenizer = Tokenizer.train(lines, data.vocabulary_size)
        del lines
    phases.append(Phase("encode into shards", memory, survey.pairs))
    encoded = folder / "shards"
    encoded.mkdir()
    with phases[-1]:
        watched.phase = phases[-1]
        write_shards(
            encoded,
            tokenizer,
            watched,
            pairs=survey.pairs,
            shard_pairs=options.shard_pairs,
            max_length=Config().model.max_length,
        )
    assert isinstance(files, ParallelFiles)
    del survey
    shards = Shards.open(encoded)
    batches = ShardedBatches(shards, batch_tokens=data.batch_tokens)
    epoch = batches.dataset().as_numpy_iterator()
    for number in range(options.epochs):
        phases.append(Phase(f"epoch {number} of batches", memory, batches.steps_per_epoch))
        with phases[-1]:
            for _ in range(batches.steps_per_epoch):
                phases[-1].tokens += count_tokens(*next(epoch))
                phases[-1].add(1)
    del epoch
    tokens = phases[-1].tokens
    report(options, phases, tokens, shards)
    print(f"\nBefore anything was read, the imports had taken {before:.0f} MiB.")
    if options.updates:
        seconds, consumed = train(batches, tokenizer, options.updates)
        rate, needed = tokens / phases[-1].seconds, consumed / seconds
        print(
            f"\nTraining a tiny model took {consumed:,} tokens in {options.updates} updates and "
            f"{seconds:.1f} s: {needed:,.0f} tokens a second. The batches alone came at "
            f"{rate:,.0f} a second, {rate / needed:.0f} times as fast."
        )


def report(options: argparse.Namespace, phases: list[Phase], tokens: int, shards: Shards) -> None:
    """Prints the tables."""
    steps = phases[-1].total
    size = sum(file.stat().st_size for file in shards.folder.iterdir())
    print(
        f"{shards.pairs:,} pairs, {tokens:,} tokens (source and target, end tokens included), "
        f"{len(shards.pairs_by_length)} shards of at most {options.shard_pairs:,} pairs, "
        f"{size / 2**20:.0f} MiB on the disk, {steps:,} batches an epoch.\n"
    )
    print("| phase | seconds | pairs a second | tokens a second |\n| --- | --- | --- | --- |")
    for phase in phases:
        whole = phase.total > 0
        pairs = f"{shards.pairs / phase.seconds:,.0f}" if whole else ""
        rate = f"{tokens / phase.seconds:,.0f}" if whole else ""
        print(f"| {phase.name} | {phase.seconds:.1f} | {pairs} | {rate} |")
    head = " | ".join(f"{10 * tenth}%" for tenth in range(1, 11))
    print(f"\nThe most resident memory in each tenth of a phase, in MiB:\n\n| phase | {head} |")
    print("| --- " * 11 + "|")
    for phase in phases:
        cells = [f"{value:.0f}" for value in phase.curve]
        print(f"| {phase.name} | {' | '.join(cells + [''] * (10 - len(cells)))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the input pipeline alone.")
    parser.add_argument("--folder", type=Path, required=True, help="an empty folder, or a new one")
    parser.add_argument("--pairs", type=int, default=5_000_000)
    parser.add_argument("--files", type=int, default=10, help="files a side")
    parser.add_argument("--shard-pairs", type=int, default=Config().data.shard_pairs)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of batches, without a model")
    parser.add_argument("--updates", type=int, default=100, help="of training, to compare; 0: none")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.iterdir()):
        sys.exit(f"{options.folder} is not empty.")
    began = time.monotonic()
    # In a process of its own, whose memory is not measured.
    process = multiprocessing.get_context("spawn").Process(
        target=generate, args=(options.folder, options.pairs, options.files)
    )
    process.start()
    process.join()
    if process.exitcode:
        sys.exit("The text could not be written.")
    print(f"generated in {time.monotonic() - began:.1f} s", file=sys.stderr)
    measure(options)


if __name__ == "__main__":
    main()
