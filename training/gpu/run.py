"""Trains and measures on a GPU, with JAX and a folder that was packed, and nothing else.

    cd FOLDER; PYTHONPATH=packages python -m training.gpu.run . --output OUT [--minutes 9]

FOLDER is what `training.gpu.pack` made. It writes
OUT/results.json after each step, so that a run that is cut leaves what it has, and the runs of the
recipes to OUT/NAME-SEED. Steps: `logits` compares float32 logits with the CPU's, `speed`
measures trainings, `recipes` trains, one seed after the other, as long as time is left.
"""

import argparse
import json
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import numpy as np

PRECISIONS = ("float32", "mixed_bfloat16")
STEPS = ("logits", "speed", "recipes")


def main() -> int:
    """Runs the steps; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--minutes", type=float, default=9, metavar="M")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of a measurement")
    parser.add_argument("--epochs", type=int, metavar="N", help="of a recipe, to try it")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    options.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"device": describe_device()}
    for name, step in (("logits", compare_logits), ("speed", measure), ("recipes", train_all)):
        if name in options.steps:
            step(results, options, end)
            write(results, options.output)
    return 0


def write(results: dict[str, Any], output: Path) -> None:
    """Writes what has been found so far."""
    (output / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps(results), flush=True)


def describe_device() -> dict[str, Any]:
    """Names the device and the versions."""
    import jax
    import keras

    device = jax.devices()[0]
    return {
        "kind": device.device_kind,
        "platform": device.platform,
        "jax": jax.__version__,
        "keras": keras.__version__,
    }


def compare_logits(results: dict[str, Any], options: argparse.Namespace, end: float) -> None:
    """Compares float32 logits with those that a CPU has computed."""
    import jax
    import keras

    import ktransformer.models  # noqa: F401  The model's class.

    folder = options.folder / "logits"
    model = keras.models.load_model(folder / "model.keras")
    with np.load(folder / "logits.npz") as arrays:
        ids = {name: arrays[name] for name in ("source", "target")}
        expected = arrays["logits"]
    with jax.default_matmul_precision("highest"):  # Not in TF32.
        found = np.asarray(model(ids), "float32")
    difference = float(np.abs(found - expected).max())
    results["logits"] = {"largest_difference": difference, "holds": difference <= 1e-4}


def measure(results: dict[str, Any], options: argparse.Namespace, end: float) -> None:
    """Measures each size and precision, of ours and of PyTorch, in turns; medians of the rounds."""
    from training.gpu import speed

    found = results["speed"] = {}
    for folder in sorted((options.folder / "workloads").iterdir()):
        for precision in options.precisions:
            if time.monotonic() < end:
                name = f"{folder.name} {precision}"
                found[name] = speed.compare(folder, precision, rounds=options.rounds)
                write(results, options.output)


def train_all(results: dict[str, Any], options: argparse.Namespace, end: float) -> None:
    """Trains each recipe with each seed, while there is time."""
    found = results["recipes"] = {}
    for path in sorted((options.folder / "recipes").glob("*.pickle")):
        for seed in options.seeds:
            if time.monotonic() < end:
                name = f"{path.stem}-{seed}"
                found[name] = train(path, seed, options.output / name, options.epochs)
                write(results, options.output)


def train(path: Path, seed: int, output: Path, epochs: int | None) -> dict[str, Any]:
    """Trains a recipe, writes the run and returns the best validation."""
    import dataclasses

    import keras

    from ktransformer.fitting import fit_model, lock_checkpoints, open_state, remove_checkpoints
    from ktransformer.saving.run import Run, make_model, save_run

    data = pickle.loads(path.read_bytes())
    changes = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
    config = data.config.replace(changes)
    keras.utils.set_random_seed(seed)
    source, _ = data.tokenizers
    model = make_model(config, source.vocabulary_size, source.special_ids.pad)
    checkpoints = output.with_name(f"{output.name}.checkpoints")
    started = time.monotonic()
    with lock_checkpoints(checkpoints):
        state = open_state(checkpoints, config, {"recipe": path.stem}, resume=True)
        fitted = fit_model(model, config.training, data.batches, data.validation, state=state)
        config = dataclasses.replace(config, training=fitted.training)
        save_run(Run(config, source, fitted.model, fitted.history), output, overwrite=True)
        remove_checkpoints(checkpoints)
    return {
        "seconds": time.monotonic() - started,
        "parameters": int(fitted.model.count_params()),
        "val_perplexity": min(fitted.history["val_perplexity"]),
    }


if __name__ == "__main__":
    sys.exit(main())
