"""Trains a run for some updates with guided alignment, to see how fast its heads learn to align.

python -m training.alignment.tune RUN OUTPUT --source train.en --target train.de --updates 150

It is `ktransformer train --from RUN --set guided_alignment=WEIGHT` with a schedule that ends after
so many updates, of the first epoch's batches. The aligner learns from the whole text.
"""

import argparse
import dataclasses
import time

from ktransformer.config import Config
from ktransformer.fitting.compiling import compile_training_model
from ktransformer.fitting.guiding import guide, with_alignment
from ktransformer.fitting.pair_batches import make_batches
from ktransformer.fitting.start import FromRun
from ktransformer.saving.run import Run, load_run, save_run
from ktransformer.text import read_parallel


def tune(run: Run, config: Config, text: tuple[str, str], updates: int) -> Run:
    """Returns the run after some updates with guided alignment."""
    start = FromRun(run)
    config = start.configure(config)
    source, target = start.tokenizers
    batches = make_batches(
        "Training text", (source, target), read_parallel([text[0]], [text[1]]), config, shuffle=True
    )
    guided, _ = guide(batches, None, (source, target))
    model = start.make_model(config, (source, target))
    training = dataclasses.replace(config.training, epochs=1)
    training_model = compile_training_model(model, training, steps_per_epoch=updates)
    training_model.fit(guided.dataset(), steps_per_epoch=updates, epochs=1, verbose=2)
    return dataclasses.replace(run, config=with_alignment(config, model), model=model)


def main() -> None:
    """Reads the command line, trains and writes the run."""
    parser = argparse.ArgumentParser(description="Train some updates with guided alignment.")
    parser.add_argument("run")
    parser.add_argument("output")
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--updates", type=int, default=150)
    parser.add_argument("--batch-tokens", type=int, default=512)
    parser.add_argument("--weight", type=float, default=1.0)
    options = parser.parse_args()
    run = load_run(options.run)
    settings = {"guided_alignment": options.weight, "batch_tokens": options.batch_tokens}
    config = FromRun(run).default_config().replace(settings)
    start = time.perf_counter()
    tuned = tune(run, config, (options.source, options.target), options.updates)
    print(f"{options.updates} updates, with the aligner {time.perf_counter() - start:.0f} s")
    save_run(tuned, options.output)


if __name__ == "__main__":
    main()
