"""Draws a translation run's loss curve and shows ten of its translations.

    python -m training.translation.report RUN --source F --reference F [--output DIR]

Writes `loss.png` into DIR and prints a Markdown table of ten sentences spread evenly over the
file, as they came out.
"""

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

from ktransformer.engines import ModelEngine, translate_lines
from ktransformer.files import new_file
from ktransformer.saving.run import Run, load_run
from ktransformer.tasks import Translator
from ktransformer.text import read_parallel
from training.programs import exit_status

mpl.use("Agg")

from matplotlib import pyplot as plt


def main() -> int:
    """Runs the report; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument("--source", required=True, metavar="F", help="texts to translate")
    parser.add_argument("--reference", required=True, metavar="F", help="their translations")
    parser.add_argument("--output", default=".", metavar="DIR", help="where loss.png goes")
    options = parser.parse_args()
    return exit_status("report", lambda: report(options))


def report(options: argparse.Namespace) -> None:
    """Draws the losses and prints the table of translations."""
    run = load_run(options.run)
    text = read_parallel(options.source, options.reference)
    draw_losses(run, Path(options.output) / "loss.png")
    print(translations_table(run, text.sources, text.targets))


def draw_losses(run: Run, path: Path) -> None:
    """Draws the cross-entropy of training and validation, and validation BLEU, by epoch."""
    epochs = range(1, len(run.history["loss"]) + 1)
    figure, losses = plt.subplots(figsize=(7, 4), layout="constrained")
    losses.plot(epochs, np.log(run.history["perplexity"]), label="training (dropout on)")
    losses.set_xlabel("epoch")
    losses.xaxis.get_major_locator().set_params(integer=True)
    losses.set_ylabel("cross-entropy, nats per token")
    losses.grid(alpha=0.3)
    lines = losses.lines
    if "val_perplexity" in run.history:
        losses.plot(epochs, np.log(run.history["val_perplexity"]), label="validation")
    if "val_bleu" in run.history:
        scores = losses.twinx()
        name = f"BLEU, {run.config.training.bleu_sentences} validation sentences, greedy"
        scores.plot(epochs, run.history["val_bleu"], color="tab:green", linestyle=":", label=name)
        scores.set_ylabel("BLEU")
        lines = [*losses.lines, *scores.lines]
    losses.legend(lines, [line.get_label() for line in lines], loc="center right")
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def translations_table(run: Run, sources: list[str], references: list[str]) -> str:
    """Translates ten sentences spread evenly over the text; a Markdown table."""
    chosen = np.linspace(0, len(sources) - 1, min(10, len(sources))).astype(int)
    translator = Translator(
        run.model, run.tokenizer, run.config.decoding, target_tokenizer=run.target_tokenizer
    )
    engine = ModelEngine(translator)
    lines = translate_lines(engine, [sources[i] for i in chosen])
    rows = [
        f"| {i + 1} | {sources[i]} | {line.text} | {references[i]} |"
        for i, line in zip(chosen, lines, strict=True)
    ]
    head = ["| line | source | translation | reference |", "| --- | --- | --- | --- |"]
    return "\n".join(head + rows)


if __name__ == "__main__":
    sys.exit(main())
