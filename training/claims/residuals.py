"""Claim 1: residual connections keep gradients alive in deep models."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ktransformer.layers import DecoderBlock
from ktransformer.losses import SmoothedCrossEntropy
from training.claims import figures, loop, tasks
from training.claims.finding import Finding, table
from training.claims.language_model import LanguageModel
from training.claims.plain_blocks import PlainBlock, UnnormedBlock, UnnormedPlainBlock

NAME, NUMBER, SERIAL = "residuals", 1, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and trainings."""

    seeds: tuple[int, ...] = (1, 2, 3)
    depths: tuple[int, ...] = (2, 6, 12, 24)
    """Numbers of layers for the measurements before training."""
    trained_depths: tuple[int, ...] = (2, 8, 24)
    """Numbers of layers of the trained models."""
    d_model: int = 32
    steps: int = 120
    batch_size: int = 16
    learning_rate: float = 3e-3


QUICK = Settings(seeds=(1,), depths=(2,), trained_depths=(1,), d_model=16, steps=2)

BLOCKS = {
    "residual around the norm (pre-norm)": DecoderBlock,
    "residual, then norm (post-norm)": DecoderBlock,
    "residual, no norm": UnnormedBlock,
    "norm, no residual": PlainBlock,
    "neither": UnnormedPlainBlock,
}
PRE, POST, BARE, NORM, NEITHER = BLOCKS
WITH = (PRE, POST, BARE)


def measure(settings: Settings) -> dict[str, Any]:
    """Measures gradients and cosines before training, and the validation loss after it."""
    task = tasks.sentences(32)
    return {
        "settings": dataclasses.asdict(settings),
        "start": {
            name: [
                [measure_start(settings, name, depth, seed) for depth in settings.depths]
                for seed in settings.seeds
            ]
            for name in BLOCKS
        },
        "trained": {
            name: [train(settings, name, depth) for depth in settings.trained_depths]
            for name in BLOCKS
        },
        "frequencies": loop.unigram_loss(
            task.train, task.validation, task.tokenizer.vocabulary_size
        ),
    }


def make_model(settings: Settings, name: str, depth: int) -> LanguageModel:
    """Creates a language model of one kind of block."""
    return LanguageModel(
        tasks.sentences(32).tokenizer.vocabulary_size,
        num_layers=depth,
        d_model=settings.d_model,
        block=BLOCKS[name],
        norm_first=name == PRE,
    )


def measure_start(settings: Settings, name: str, depth: int, seed: int) -> dict[str, Any]:
    """Measures a model before training.

    Returns:
        The gradient norm of each layer's weights, first layer first, and the mean cosine between
        the positions of a text after the last layer.
    """
    keras.utils.set_random_seed(seed)
    split = tasks.sentences(32).train
    model = loop.build(make_model(settings, name, depth), split)
    rows = np.random.default_rng(seed).choice(len(split), settings.batch_size, replace=False)
    batch = split.rows(rows)
    weights = [block.trainable_weights for block in model.decoder.blocks]
    with tf.GradientTape() as tape:
        loss = SmoothedCrossEntropy(0.0)(batch.labels, model(batch.inputs))
    gradients = tape.gradient(loss, [[w.value for w in layer] for layer in weights])
    return {
        "gradients": [float(tf.linalg.global_norm(layer)) for layer in gradients],
        "cosine": mean_cosine(model, batch.inputs),
    }


def mean_cosine(model: LanguageModel, inputs: np.ndarray) -> float:
    """Returns the mean cosine between the vectors of two real positions of a text."""
    hidden = np.asarray(model.hidden_states(inputs))  # [B, T, D]
    units = hidden / np.maximum(np.linalg.norm(hidden, axis=-1, keepdims=True), 1e-30)
    cosines = units @ units.transpose(0, 2, 1)  # [B, T, T]
    real = np.asarray(model.compute_mask(inputs))
    pairs = real[:, :, None] & real[:, None, :] & ~np.eye(real.shape[1], dtype=bool)
    return float(cosines[pairs].mean())


def train(settings: Settings, name: str, depth: int) -> list[float]:
    """Trains a model per seed; returns the validation losses."""
    task = tasks.sentences(32)
    vocabulary_size = task.tokenizer.vocabulary_size
    trainer = loop.Trainer(
        lambda: make_model(settings, name, depth), task.train, batch_size=settings.batch_size
    )
    losses = []
    for seed in settings.seeds:
        trainer.fit(steps=settings.steps, learning_rate=settings.learning_rate, seed=seed)
        losses.append(loop.capped(trainer.evaluate(task.validation).loss, vocabulary_size))
    return losses


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the gradient by layer, and the cosine and the loss against depth."""
    settings = measurements["settings"]
    figure, axes = figures.panels(2, rows=2, height=3.5)
    deepest = settings["depths"][-1]
    for index, name in enumerate(BLOCKS):
        layers = range(1, deepest + 1)
        gradients = [run[-1]["gradients"] for run in measurements["start"][name]]
        figures.band(axes[0], layers, gradients, name, index, geometric=True, markersize=3)
        ratios = gradient_ratios(measurements, name)
        figures.band(axes[1], settings["depths"], ratios, name, index, geometric=True)
        cosines = [[start["cosine"] for start in run] for run in measurements["start"][name]]
        figures.band(axes[2], settings["depths"], cosines, name, index)
        losses = np.transpose(measurements["trained"][name])
        figures.band(axes[3], settings["trained_depths"], losses, name, index)
    axes[3].axhline(measurements["frequencies"], color=figures.MUTED, linewidth=1, linestyle=":")
    axes[3].annotate(
        "token frequencies alone",
        (settings["trained_depths"][-1], measurements["frequencies"]),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=figures.MUTED,
    )
    figures.label(
        axes[0],
        f"{deepest} layers, before training",
        "layer, 1 is nearest the input",
        "gradient norm of its weights (log)",
    )
    figures.label(
        axes[1], "before training", "layers", "first layer's gradient / last layer's (log)"
    )
    figures.label(axes[2], "before training", "layers", "mean cosine of two positions of a text")
    figures.label(
        axes[3],
        f"after {settings['steps']} steps",
        "layers",
        "validation loss, nats per token",
    )
    axes[0].set_yscale("log")
    axes[1].set_yscale("log")
    for axis, depths in zip(axes[1:], ("depths", "depths", "trained_depths"), strict=True):
        axis.set_xticks(settings[depths])
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=8.5,
        frameon=False,
    )
    figures.save(figure, path)


def gradient_ratios(measurements: dict[str, Any], name: str) -> list[list[float]]:
    """Returns the ratio of the first layer's gradient norm to the last's, `[seeds, depths]`."""
    return [
        [start["gradients"][0] / start["gradients"][-1] for start in run]
        for run in measurements["start"][name]
    ]


def deepest_ratio(measurements: dict[str, Any], name: str) -> float:
    """Returns the gradient ratio of the deepest model, the geometric mean of the seeds."""
    return float(np.exp(np.log(gradient_ratios(measurements, name))[:, -1].mean()))


def outcome(measurements: dict[str, Any]) -> str:
    """Returns the table of the means over seeds."""
    settings = measurements["settings"]
    deepest, depths = settings["depths"][-1], settings["trained_depths"]
    rows = []
    for name in BLOCKS:
        cosine = np.mean([run[-1]["cosine"] for run in measurements["start"][name]])
        losses = np.mean(measurements["trained"][name], axis=1)
        ratio = f"{deepest_ratio(measurements, name):.3g}"
        rows.append([name, ratio, f"{cosine:.3f}", *(f"{loss:.2f}" for loss in losses)])
    head = ["block", f"gradient ratio, {deepest} layers", f"cosine, {deepest} layers"]
    return (
        "The gradient ratio is the first layer's gradient norm over the last layer's; the cosine "
        "is the mean over pairs of positions of a text, 1 if all have the same vector. Both are "
        "measured before training, the losses after it: token frequencies alone give "
        f"{measurements['frequencies']:.2f}, and a loss above that of uniform guesses counts "
        "as that.\n\n" + table([*head, *(f"loss, {depth} layers" for depth in depths)], rows)
    )


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the deepest models.

    A gradient is alive if the first layer's norm is at least a tenth of the last layer's (geometric
    mean of the seeds), and dead if it is below a thousandth. A model has learned if every seed's
    loss is at least 0.1 below the unigram loss. The claim holds if the gradient is dead without
    residual and norm, alive with each kind of residual, and exactly the models with a residual
    learn. It holds under a condition if only some of these learn, and no others.
    """
    settings, seeds = measurements["settings"], len(measurements["settings"]["seeds"])
    deepest, trained = settings["depths"][-1], settings["trained_depths"][-1]
    ratio = {name: deepest_ratio(measurements, name) for name in BLOCKS}
    losses = {name: np.array(measurements["trained"][name][-1]) for name in BLOCKS}
    bound = measurements["frequencies"] - 0.1
    learned = [name for name in BLOCKS if (losses[name] < bound).all()]
    helped = ratio[NEITHER] < 1e-3 and all(ratio[name] >= 0.1 for name in WITH)
    if not helped or not learned or set(learned) - set(WITH):
        verdict, condition = "does not hold", ""
    elif set(learned) == set(WITH):
        verdict, condition = "holds", ""
    else:
        verdict = "holds only when"
        condition = (
            f"the norm goes with it in the right place: of the {trained}-layer models only "
            f"{' and '.join(f'“{name}”' for name in learned)} learned"
        )
    return Finding(
        title="Residual connections",
        claim="Residual connections keep the gradient alive on its way down through many layers.",
        measured=(
            f"Causal language models of width {settings['d_model']} on English sentences, "
            f"{settings['depths'][0]} to {deepest} layers, in five forms: with a residual around "
            "the norm, with one before the norm, with one and no norm, with a norm and no "
            "residual, and with neither. Before training: the norm of the gradient of each "
            "layer's weights, and the mean cosine between the positions of a text after the last "
            f"layer. Then the validation loss after {settings['steps']} steps of Adam at a "
            f"learning rate of {settings['learning_rate']:g}, without warm-up, with "
            f"{', '.join(map(str, settings['trained_depths']))} layers. {seeds} seeds. "
            "The variants are the option `norm_first` and decoder blocks that override "
            "`after_sublayer` and `make_norm`."
        ),
        outcome=outcome(measurements),
        verdict=verdict,
        condition=condition,
        explanation=(
            "Backpropagation multiplies the gradient by the derivative of each layer. If every "
            "derivative shrinks it a little, it vanishes after many layers. The derivative of `x + "
            "f(x)` is 1 plus that of f, so one path always passes the gradient on unchanged. This "
            "is the usual answer, and it is incomplete: the sum also grows, so without a norm the "
            "gradient does not vanish but may explode, which is as bad. A norm alone rescales the "
            "gradient at each layer, so the size of the gradient says little; the cosine says "
            "more. Attention averages over positions. Without a path around it that keeps each "
            "position's own vector, the positions of a text converge to the same vector, and no "
            "later layer can tell them apart, however large the gradient is. The residual "
            "connection keeps them different. If the norm comes after the sum (post-norm), it "
            "shrinks the direct path at every layer, so deep post-norm models need warm-up (claim "
            "3)."
        ),
        alt=(
            f"Four panels, five forms of block. The gradient norm of each of {deepest} layers; the "
            "first layer's gradient norm over the last layer's against depth; the mean cosine "
            "between positions against depth; and the validation loss after training against depth."
        ),
        reference=(
            "He et al. 2016, Deep Residual Learning; Xiong et al. 2020, On Layer Normalization in "
            "the Transformer Architecture; Dong et al. 2021, Attention Is Not All You Need: Pure "
            "Attention Loses Rank Doubly Exponentially with Depth."
        ),
    )
