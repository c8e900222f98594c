"""What the small run is made of: number words to digits, and how it is trained."""

import random
from pathlib import Path

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def number_pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Makes pairs such as ("four zero two", "402")."""
    generator = random.Random(seed)
    pairs = []
    for _ in range(count):
        digits = [generator.randrange(10) for _ in range(generator.randint(1, 5))]
        pairs.append((" ".join(WORDS[d] for d in digits), "".join(map(str, digits))))
    return pairs


def write_pairs(folder: Path, name: str, pairs: list[tuple[str, str]]) -> tuple[Path, Path]:
    """Writes `name.source` and `name.target`, a text a line."""
    paths = folder / f"{name}.source", folder / f"{name}.target"
    for path, lines in zip(paths, zip(*pairs, strict=True), strict=True):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return paths


TRAINING_SETTINGS = (
    "num_layers=1",
    "d_model=64",
    "hidden_dim=128",
    "num_heads=4",
    "vocabulary_size=60",
    "max_length=24",
    "batch_tokens=1024",
    "learning_rate=0.005",
    "warmup_steps=60",
    "epochs=20",
    "average_checkpoints=2",
    "beam_size=3",
)


def train_arguments(source: Path, target: Path, output: Path, *more: str) -> list[str]:
    """The command line that trains the small run."""
    settings = [word for setting in TRAINING_SETTINGS for word in ("--set", setting)]
    files = ["--source", str(source), "--target", str(target), "--output", str(output)]
    return ["train", *files, *settings, *more]
