"""Claim 7: multiplying embeddings by sqrt(d_model) keeps positions from drowning them."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.layers import PositionalEmbedding, sinusoidal_positions
from training.claims import figures, loop, tasks
from training.claims.finding import Finding, table
from training.claims.language_model import LanguageModel

NAME, NUMBER, SERIAL = "embedding_scaling", 7, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and trainings."""

    seeds: tuple[int, ...] = (1, 2, 3)
    widths: tuple[int, ...] = (16, 64, 256)
    """d_model."""
    num_layers: int = 2
    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 2e-3


QUICK = Settings(seeds=(1,), widths=(16,), num_layers=1, steps=2)


class WideEmbedding(PositionalEmbedding):
    """An embedding with a table of standard deviation 1; the library's has d_model**-0.5."""

    def build(self, input_shape: Any = None) -> None:
        """Creates the table and multiplies it by sqrt(d_model)."""
        super().build(input_shape)
        self.embeddings.assign(self.embeddings * self.d_model**0.5)


class WideModel(LanguageModel):
    """A language model with a `WideEmbedding`."""

    def make_embedding(self, name: str) -> PositionalEmbedding:
        """Creates a `WideEmbedding`."""
        return WideEmbedding.from_config(super().make_embedding(name).get_config())


SCALED = "small table, times √d_model"
SMALL = "small table, not scaled"
WIDE = "table of deviation 1, not scaled"
EMBEDDINGS = {
    SCALED: (LanguageModel, True),
    SMALL: (LanguageModel, False),
    WIDE: (WideModel, False),
}
"""The model of each embedding, and its `scale_embeddings`."""


def measure(settings: Settings) -> dict[str, Any]:
    """Trains models of each width with each embedding."""
    task = tasks.sentences(32)
    return {
        "settings": dataclasses.asdict(settings),
        "runs": {
            name: [train(settings, name, width) for width in settings.widths] for name in EMBEDDINGS
        },
        "frequencies": loop.unigram_loss(
            task.train, task.validation, task.tokenizer.vocabulary_size
        ),
    }


def train(settings: Settings, name: str, width: int) -> list[dict[str, float]]:
    """Trains language models of one width.

    Returns:
        For each seed: the size of the token vectors relative to the positions, before and after
        training; the first training loss; and the validation loss.
    """
    task = tasks.sentences(32)
    kind, scale = EMBEDDINGS[name]

    def make_model() -> keras.Model:
        return kind(
            task.tokenizer.vocabulary_size,
            num_layers=settings.num_layers,
            d_model=width,
            norm_first=True,
            scale_embeddings=scale,
        )

    trainer = loop.Trainer(make_model, task.train, batch_size=settings.batch_size)
    runs = []
    for seed in settings.seeds:
        start = relative_size(trainer.restart(seed), task.train)
        losses = trainer.train(
            steps=settings.steps, learning_rate=settings.learning_rate, seed=seed
        )
        runs.append(
            {
                "start": start,
                "end": relative_size(trainer.model, task.train),
                "first_loss": losses[0],
                "validation": trainer.evaluate(task.validation).loss,
            }
        )
    return runs


def relative_size(model: LanguageModel, split: tasks.Split) -> float:
    """Returns the root mean square of the token vectors over that of the positions.

    The means are over all real tokens of the training text.
    """
    embedding = model.target_embedding
    ids = split.inputs
    positions = sinusoidal_positions(ids.shape[1], embedding.d_model)
    tokens = np.asarray(embedding.embed(ids)) - positions
    real = np.asarray(embedding.compute_mask(ids))
    places = np.broadcast_to(positions, tokens.shape)[real]
    return float(np.sqrt((tokens[real] ** 2).mean() / (places**2).mean()))


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the relative sizes before and after training, and the loss, against the width."""
    widths = measurements["settings"]["widths"]
    figure, axes = figures.panels(3, height=4.0)
    for index, name in enumerate(EMBEDDINGS):
        style = "--" if name == WIDE else "-"  # It starts on top of the first line.
        for axis, key in zip(axes, ("start", "end", "validation"), strict=True):
            runs = values(measurements, name, key)
            figures.band(axis, widths, runs, name, index, linestyle=style)
    for axis, when in ((axes[0], "before training"), (axes[1], "after training")):
        figures.label(axis, when, "d_model (log)", "size of tokens / size of positions (log)")
        axis.axhline(1, color=figures.MUTED, linewidth=1, linestyle=":")
        axis.set_yscale("log")
    axes[1].sharey(axes[0])
    figures.label(
        axes[2],
        f"after {measurements['settings']['steps']} steps",
        "d_model (log)",
        "validation loss, nats per token",
    )
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_xticks(widths, map(str, widths))
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
    )
    figures.save(figure, path)


def values(measurements: dict[str, Any], name: str, key: str) -> np.ndarray:
    """Returns one measure of one embedding, `[seeds, widths]`."""
    return np.array([[run[key] for run in runs] for runs in measurements["runs"][name]]).T


def outcome(measurements: dict[str, Any]) -> str:
    """Returns the table of the means over seeds."""
    widths = measurements["settings"]["widths"]
    rows = []
    for i, width in enumerate(widths):
        for name in EMBEDDINGS:
            start, end, first, loss = (
                values(measurements, name, key).mean(axis=0)[i]
                for key in ("start", "end", "first_loss", "validation")
            )
            row = [f"{start:.2f}", f"{end:.2f}", f"{first:.1f}", f"{loss:.2f}"]
            rows.append([f"{width}, {name}", *row])
    head = ["d_model, embedding", "tokens / positions", "after training", "first loss", "last loss"]
    return (
        "The size of the tokens over that of the positions, the very first training loss, and the "
        "validation loss at the end (token frequencies alone give "
        f"{measurements['frequencies']:.2f}):\n\n" + table(head, rows)
    )


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the initial sizes and the losses at the largest width.

    Tokens are drowned if their initial size is below half that of the positions. The claim needs
    tokens of the small table drowned without the factor and not with it, and every seed's loss
    with the factor below every loss without it. Then it holds if the table of deviation 1 is
    drowned too; otherwise it holds only for the small table.
    """
    settings = measurements["settings"]
    seeds = len(settings["seeds"])
    start = {name: values(measurements, name, "start").mean(axis=0)[-1] for name in EMBEDDINGS}
    losses = {name: values(measurements, name, "validation") for name in EMBEDDINGS}
    drowned = {name: start[name] < 0.5 for name in EMBEDDINGS}
    helps = losses[SCALED][:, -1].max() < losses[SMALL][:, -1].min()
    if not drowned[SMALL] or drowned[SCALED] or not helps:
        verdict, condition = "does not hold", ""
    elif drowned[WIDE]:
        verdict, condition = "holds", ""
    else:
        verdict = "holds only when"
        condition = (
            "the table is drawn small, with a deviation near 1/√d_model, as one that is also the "
            "output projection has to be"
        )
    return Finding(
        title="Multiplying embeddings by √d_model",
        claim=(
            "Token embeddings must be multiplied by √d_model, or the positions that are added "
            "drown them."
        ),
        measured=(
            f"Causal language models of {settings['num_layers']} layers on English sentences, "
            f"d_model {', '.join(map(str, settings['widths']))}, sinusoidal positions, the "
            "embedding table tied to the output projection. The table is drawn with deviation "
            "1/√d_model and scaled, drawn so and not scaled, or drawn with deviation 1 and not "
            "scaled. Measured: the size (root mean square) of the token vectors over that of the "
            f"positions before and after {settings['steps']} steps of training, and the validation "
            f"loss. {seeds} seeds. The variants are the option `scale_embeddings` "
            "and a subclass of the embedding with another table."
        ),
        outcome=outcome(measurements),
        verdict=verdict,
        condition=condition,
        explanation=(
            "The components of sinusoidal positions are sines and cosines, of size 1/√2 at every "
            "width. The size of a token's vector depends on the initialization of the table, which "
            "the usual answer omits. A table shared with the output must be small: a logit is a "
            "sum of d_model products with a normed vector whose components have size 1, so initial "
            "logits have a size near 1 only with a deviation near 1/√d_model. The token vectors of "
            "such a table are √d_model times too small to be added to positions; the factor brings "
            "them to size 1. So one table serves both uses. Token vectors of a table of deviation "
            "1 need no factor beside the positions, but as an output projection this table yields "
            "initial logits about √d_model too large: see the first loss. Training changes the "
            "sizes too, but an optimizer like Adam moves a component by at most about the learning "
            "rate per step: compare the two panels of sizes."
        ),
        alt=(
            "Three panels against d_model for the three tables: the size of tokens over that of "
            "positions before and after training, and the validation loss."
        ),
        reference=(
            "Vaswani et al. 2017, Attention Is All You Need, section 3.4 (the factor, without a "
            "reason given) and 3.5; Press and Wolf 2017, Using the Output Embedding to Improve "
            "Language Models (tying)."
        ),
    )
