"""Packs what a training on a GPU needs into one folder, where TensorFlow is.

    python -m training.gpu.pack DATA --output runs/gpu [--student SOURCE TARGET] [--python 3.11]

DATA is a folder of Multi30k. The folder has this package, Keras and what it needs as unpacked
wheels, the encoded text of each recipe, and logits that this machine's CPU computed. On the machine
with the GPU: `PYTHONPATH=packages python -m training.gpu.run . --output OUT` in that folder.
"""

import argparse
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

import keras
import numpy as np

from export.benchmark.needs import find_text
from ktransformer.config import Config, read_settings
from ktransformer.errors import InputError
from ktransformer.files import FolderKind, new_folder
from ktransformer.fitting.mixture import Mixture
from ktransformer.fitting.training_data import TrainingData
from ktransformer.models import PRESETS, Transformer
from ktransformer.text import read_parallel
from training.benchmark.training_batches import DROPOUT, LABEL_SMOOTHING, MAX_LENGTH, choose
from training.benchmark.training_registry import SIZES
from training.benchmark.training_workload import TrainingWorkload
from training.programs import exit_status

ROOT = Path(__file__).parents[2]
# What the training imports; JAX itself, NumPy and ml_dtypes are on the machine with the GPU.
WHEELS = ("keras", "absl-py", "h5py", "namex", "optree", "packaging", "pygments", "pyyaml", "rich")
WHEELS += ("markdown-it-py", "mdurl", "sentencepiece", "typing-extensions")
KIND = FolderKind("a folder for a GPU", (r".*",))


def main() -> int:
    """Packs; returns the exit status."""
    options = make_parser().parse_args()
    return exit_status("pack", lambda: pack(options))


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--student", nargs=2, type=Path, metavar=("SOURCE", "TARGET"))
    parser.add_argument("--python", default="3.11", metavar="X.Y", help="of the other machine")
    parser.add_argument(
        "--no-packages", action="store_true", help="for a machine that has these packages"
    )
    parser.add_argument("--batches", type=int, default=40, metavar="N", help="to measure with")
    parser.add_argument("--batch-tokens", type=int, default=8192, metavar="N")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("teacher.yaml"))
    return parser


def pack(options: argparse.Namespace) -> None:
    """Writes the folder."""
    with new_folder(options.output, overwrite=True, kind=KIND) as folder:
        if not options.no_packages:
            add_packages(folder / "packages", options.python)
        for size in options.sizes:
            add_workload(folder / "workloads" / size, size, options)
        recipes = {"teacher": (options.config, texts_of(options.data))}
        if options.student is not None:
            config = ROOT / "training" / "translation" / "multi30k_student.yaml"
            recipes["student"] = (config, tuple(options.student))
        for name, (config, paths) in recipes.items():
            add_recipe(folder / "recipes" / f"{name}.pickle", config, paths, options.data)
        add_logits(folder / "logits")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{options.output}: {size / 1e6:.1f} MB")


def texts_of(data: Path, part: str = "train") -> tuple[Path, Path]:
    """Returns the English and the German file of a part."""
    english, german = (Path(find_text(data, f"{part}.{language}")) for language in ("en", "de"))
    return english, german


def add_packages(folder: Path, python: str) -> None:
    """Unpacks the wheels, and copies this package and its benchmark.

    Raises:
        InputError: A wheel cannot be had.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as wheels:
        keras_version = f"keras=={keras.__version__}"
        wanted = [keras_version if name == "keras" else name for name in WHEELS]
        line = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels]
        line += ["--only-binary=:all:", "--python-version", python]
        for platform in ("manylinux_2_28_x86_64", "manylinux2014_x86_64"):
            line += ["--platform", platform]
        if subprocess.run([*line, *wanted], check=False).returncode:
            raise InputError(f"pip found no wheels for Python {python}.")
        for wheel in Path(wheels).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if "/tests/" not in name]
                archive.extractall(folder, names)
    leave = shutil.ignore_patterns("__pycache__", "*.png", "node_modules")
    for name in ("ktransformer", "training/gpu", "training/benchmark", "export/benchmark"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    for name in ("training", "export"):
        shutil.copy(ROOT / name / "__init__.py", folder / name / "__init__.py")


def add_workload(folder: Path, size: str, options: argparse.Namespace) -> None:
    """Writes batches of the same shape to measure a size with."""
    batches = choose(options.data, options.output.parent, options.batch_tokens, options.batches)
    shape = batches[len(batches) // 2][0].shape
    alike = [batch for batch in batches if batch[0].shape == shape]
    sizes = {**PRESETS[size], "vocabulary_size": SIZES[size], "max_length": MAX_LENGTH}
    folder.mkdir(parents=True)
    TrainingWorkload(sizes, DROPOUT, LABEL_SMOOTHING, alike).save(folder)


def add_recipe(path: Path, config: Path, paths: tuple[Path, Path], data: Path) -> None:
    """Writes the encoded text of a recipe, and of the validation."""
    settings = Config().replace({**PRESETS["tiny"], **read_settings(config)})

    def read() -> tuple[Mixture, Any]:
        return Mixture([read_parallel(*paths)]), read_parallel(*texts_of(data, "val"))

    with tempfile.TemporaryDirectory() as scratch:
        found = TrainingData(read, settings, Path(scratch), reuse=False).encode_stored(None)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(found))


def add_logits(folder: Path) -> None:
    """Writes a small model, ids and the logits that this machine's CPU computes of them."""
    folder.mkdir()
    keras.utils.set_random_seed(1)
    model = Transformer.from_preset("tiny", 1000)
    generator = np.random.default_rng(1)
    ids = {
        name: generator.integers(4, 1000, (8, 24)).astype("int32") for name in ("source", "target")
    }
    logits = np.asarray(model(ids), "float32")
    model.save(folder / "model.keras")
    np.savez(folder / "logits.npz", logits=logits, **ids)


if __name__ == "__main__":
    sys.exit(main())
