"""Claim 3: LayerNorm allows a higher learning rate, steadier training and some regularisation."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.layers import DecoderBlock
from training.claims import figures, loop, tasks
from training.claims.finding import Finding, table
from training.claims.language_model import LanguageModel
from training.claims.overfitting import at_equal_training, overfit
from training.claims.plain_blocks import UnnormedBlock

NAME, NUMBER, SERIAL = "learning_rates", 3, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and trainings."""

    seeds: tuple[int, ...] = (1, 2, 3)
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    num_layers: int = 6
    shallow_layers: int = 2
    """Layers of the shallow models, with pre-norm and without norm."""
    d_model: int = 32
    steps: int = 300
    warmup_steps: int = 100
    batch_size: int = 16
    checked_every: int = 10
    """Steps between two evaluations on the first 100 validation texts."""
    few: int = 200
    """Texts of the small training set, on which models overfit."""
    few_parts: int = 6
    """Evaluations of a training on the small set."""
    few_steps: int = 40
    """Steps before each of these evaluations."""


QUICK = Settings(
    seeds=(1,),
    learning_rates=(1e-3, 1e-2),
    num_layers=1,
    shallow_layers=1,
    d_model=16,
    steps=2,
    checked_every=1,
    warmup_steps=1,
    few_parts=2,
    few_steps=2,
)

PRE, POST, NONE = "pre-norm", "post-norm", "no norm"
VARIANTS = {PRE: (DecoderBlock, True), POST: (DecoderBlock, False), NONE: (UnnormedBlock, False)}
WARM = {PRE: "pre-norm, warm-up", POST: "post-norm, warm-up"}


def measure(settings: Settings) -> dict[str, Any]:
    """Trains each variant at each learning rate; those with a norm with warm-up as well."""
    task = tasks.sentences(32)
    runs = {}
    for name in VARIANTS:
        runs |= sweep(settings, name, settings.num_layers, with_warmup=name in WARM)
    shallow = {}
    for name in (PRE, NONE):
        shallow |= sweep(settings, name, settings.shallow_layers)
    rates = {name: best_rate(settings, runs[name]) for name in (PRE, NONE)}
    return {
        "settings": dataclasses.asdict(settings),
        "runs": runs,
        "shallow": shallow,
        "few": {name: measure_overfitting(settings, name, rate) for name, rate in rates.items()},
        "few_rates": rates,
        "frequencies": loop.unigram_loss(
            task.train, task.validation, task.tokenizer.vocabulary_size
        ),
    }


def make_model(settings: Settings, name: str, num_layers: int) -> LanguageModel:
    """Creates a language model of one variant."""
    block, norm_first = VARIANTS[name]
    return LanguageModel(
        tasks.sentences(32).tokenizer.vocabulary_size,
        num_layers=num_layers,
        d_model=settings.d_model,
        block=block,
        norm_first=norm_first,
    )


def warmed_up(peak: float, steps: int) -> Callable[[int], float]:
    """Returns a schedule with `steps` of linear warm-up, constant afterwards."""
    return lambda step: peak * min(1.0, (step + 1) / steps)


def sweep(
    settings: Settings, name: str, num_layers: int, *, with_warmup: bool = False
) -> dict[str, list[list[dict[str, float]]]]:
    """Trains one variant at each learning rate, without and optionally with warm-up.

    Returns:
        For each variant `[seeds, rates]` of the validation loss and of `rise`: the sum of all
        increases of the loss on 100 validation texts from one evaluation to the next.
    """
    task = tasks.sentences(32)
    trainer = loop.Trainer(
        lambda: make_model(settings, name, num_layers), task.train, batch_size=settings.batch_size
    )
    probe = task.validation.rows(slice(0, 100))

    def evaluate(split: tasks.Split) -> float:
        return loop.capped(trainer.evaluate(split).loss, task.tokenizer.vocabulary_size)

    def run(rate: Callable[[int], float], seed: int) -> dict[str, float]:
        trainer.restart(seed)
        losses = []
        for start in range(0, settings.steps, settings.checked_every):
            later = functools.partial(_later, rate, start)
            trainer.train(steps=settings.checked_every, learning_rate=later, seed=(seed, start))
            losses.append(evaluate(probe))
        rise = float(np.maximum(np.diff(losses), 0.0).sum())
        return {"validation": evaluate(task.validation), "rise": rise}

    def runs(warmup_steps: int) -> list[list[dict[str, float]]]:
        schedules = [warmed_up(rate, warmup_steps) for rate in settings.learning_rates]
        return [[run(schedule, seed) for schedule in schedules] for seed in settings.seeds]

    found = {name: runs(1)}
    if with_warmup:
        found[WARM[name]] = runs(settings.warmup_steps)
    return found


def _later(schedule: Callable[[int], float], start: int, step: int) -> float:
    return schedule(start + step)


def best_rate(settings: Settings, runs: list[list[dict[str, float]]]) -> float:
    """Returns the learning rate with the lowest mean validation loss."""
    losses = np.array([[point["validation"] for point in run] for run in runs])
    return settings.learning_rates[int(losses.mean(axis=0).argmin())]


def measure_overfitting(settings: Settings, name: str, rate: float) -> list[dict[str, Any]]:
    """Trains one variant on few texts until it has memorised them; returns one curve per seed."""
    task = tasks.sentences(32)
    few = task.train.rows(slice(0, settings.few))
    trainer = loop.Trainer(
        lambda: make_model(settings, name, settings.num_layers), few, batch_size=settings.batch_size
    )
    return [
        overfit(
            trainer,
            {"training": few, "validation": task.validation},
            parts=settings.few_parts,
            steps=settings.few_steps,
            learning_rate=rate,
            seed=seed,
        )
        for seed in settings.seeds
    ]


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the loss against the learning rate, and the validation against the training loss."""
    settings = measurements["settings"]
    rates = settings["learning_rates"]
    figure, axes = figures.panels(3, height=4.2)
    colors = {PRE: 0, POST: 1, NONE: 2}
    for name, index in colors.items():
        figures.band(axes[0], rates, losses_of(measurements, name), name, index)
    for name in (PRE, POST):
        index = colors[name]
        figures.band(axes[1], rates, losses_of(measurements, name), name, index)
        warm = losses_of(measurements, WARM[name])
        figures.band(axes[1], rates, warm, WARM[name], index, linestyle="--", markerfacecolor="w")
    for axis, title in ((axes[0], "with and without norm"), (axes[1], "with and without warm-up")):
        figures.label(axis, title, "learning rate (log)", "validation loss, nats per token")
        axis.set_xscale("log")
        axis.axhline(measurements["frequencies"], color=figures.MUTED, linewidth=1, linestyle=":")
        axis.annotate(
            "token frequencies alone",
            (rates[0], measurements["frequencies"]),
            xytext=(0, 4),
            textcoords="offset points",
            fontsize=8,
            color=figures.MUTED,
        )
        figures.legend(axis)
    axes[1].sharey(axes[0])
    for name in (PRE, NONE):
        for seed, curve in enumerate(measurements["few"][name]):
            axes[2].plot(
                curve["training"],
                curve["validation"],
                color=figures.COLORS[colors[name]],
                marker=figures.MARKERS[colors[name]],
                markersize=4,
                linewidth=1.2,
                label=name if seed == 0 else None,
            )
    figures.label(
        axes[2],
        f"training on {settings['few']} texts (one line per seed)",
        "loss on these texts, nats per token",
        "validation loss, nats per token",
    )
    axes[2].invert_xaxis()
    figures.legend(axes[2])
    figures.save(figure, path)


def losses_of(measurements: dict[str, Any], name: str, depth: str = "runs") -> np.ndarray:
    """Returns the validation losses of one variant, `[seeds, rates]`."""
    return np.array([[p["validation"] for p in run] for run in measurements[depth][name]])


def highest_rate(measurements: dict[str, Any], name: str, depth: str = "runs") -> float | None:
    """Returns the highest rate at which every seed learns; None if there is none.

    To learn means a loss at least 0.1 below the unigram loss.
    """
    learned = (losses_of(measurements, name, depth) < measurements["frequencies"] - 0.1).all(axis=0)
    rates = measurements["settings"]["learning_rates"]
    return max((rate for rate, good in zip(rates, learned, strict=True) if good), default=None)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the three parts of the claim, for pre-norm against no norm.

    - Higher rate: the highest rate at which every seed learns is higher with the norm.
    - Steadier: at the best rate of the model without norm, the sum of increases of the loss on
      fixed texts is lower with the norm (mean over seeds).
    - Regularisation: at equal training loss on few texts, every seed's validation loss is lower
      with the norm.

    The claim holds if all three are true, and the shallow model has a higher rate too. It holds
    under a condition if the first is true, and does not hold otherwise.
    """
    settings, seeds = measurements["settings"], len(measurements["settings"]["seeds"])
    highest = {name: highest_rate(measurements, name) for name in measurements["runs"]}
    best = {name: losses_of(measurements, name).mean(axis=0).min() for name in highest}
    best_rates = {
        name: settings["learning_rates"][losses_of(measurements, name).mean(axis=0).argmin()]
        for name in highest
    }
    place = settings["learning_rates"].index(best_rates[NONE])
    rise = {
        name: float(np.mean([run[place]["rise"] for run in measurements["runs"][name]]))
        for name in (PRE, NONE)
    }
    shallow = {name: highest_rate(measurements, name, "shallow") for name in (PRE, NONE)}
    shallow_best = {
        name: losses_of(measurements, name, "shallow").mean(axis=0).min() for name in shallow
    }
    few = at_equal_training(measurements["few"])
    parts = {
        "a higher learning rate": (highest[PRE] or 0) > (highest[NONE] or 0),
        "steadier training": rise[PRE] < rise[NONE],
        "regularisation": bool((few[PRE] < few[NONE]).all()),
    }
    shown = [part for part, is_so in parts.items() if is_so]
    missing = [part for part, is_so in parts.items() if not is_so]
    conditions = []
    if missing:
        conditions.append(f"it speaks of {' and '.join(shown)}, not of {' or '.join(missing)}")
    if not (shallow[PRE] or 0) > (shallow[NONE] or 0):
        conditions.append(f"the model is deep ({settings['num_layers']} layers here)")
    if not parts["a higher learning rate"]:
        verdict, condition = "does not hold", ""
    else:
        verdict = "holds only when" if conditions else "holds"
        condition = " and ".join(conditions)
    return Finding(
        title="What LayerNorm does for training",
        claim=(
            "LayerNorm allows a higher learning rate, makes training steadier and regularises "
            "somewhat."
        ),
        measured=(
            f"Causal language models of {settings['num_layers']} layers, width "
            f"{settings['d_model']}, on English sentences, with pre-norm, with post-norm and with "
            f"no norm at all, {settings['steps']} steps of Adam at constant learning rates from "
            f"{settings['learning_rates'][0]:g} to {settings['learning_rates'][-1]:g}; the two "
            f"with a norm also with a warm-up of {settings['warmup_steps']} steps. Pre-norm and no "
            f"norm also in models of {settings['shallow_layers']} layers. For "
            "regularisation, pre-norm and no norm, each at its best rate, on "
            f"{settings['few']} texts alone, until they are nearly memorised: the "
            f"validation loss at equal training loss. {seeds} seeds. The variants are the "
            "option `norm_first` and a decoder block that overrides `make_norm`."
        ),
        outcome=(
            f"At a rate of {best_rates[NONE]:g} the increases of the loss on 100 validation texts, "
            f"evaluated every {settings['checked_every']} steps, sum to {rise[PRE]:.3f} with "
            f"pre-norm and to {rise[NONE]:.3f} "
            f"without norm. On {settings['few']} texts, at equal training loss, the validation "
            f"loss is {few[PRE].mean():.2f} with pre-norm and {few[NONE].mean():.2f} without "
            f"(by seed: {_pairs(few)}). The rates:\n\n"
            + table(
                ["block", "every seed learns up to", "best rate", "its loss"],
                [
                    [name, _rate(highest[name]), f"{best_rates[name]:g}", f"{best[name]:.2f}"]
                    for name in highest
                ],
            )
            + f"\n\nIn models of {settings['shallow_layers']} layers every seed learns up to "
            f"{_rate(shallow[PRE])} with pre-norm and {_rate(shallow[NONE])} without norm; the "
            f"best losses are {shallow_best[PRE]:.2f} and {shallow_best[NONE]:.2f}."
            + " To learn means a validation loss at least 0.1 below that of token "
            f"frequencies, {measurements['frequencies']:.2f}."
        ),
        verdict=verdict,
        condition=condition,
        explanation=(
            "After a norm only the direction of the preceding weights matters, not their size. A "
            "step that is too large makes the weights larger and so the next step relatively "
            "smaller: a norm forgives a high rate. Its place matters as much. Pre-norm never norms "
            "the sum of all layers, so a direct path leads from the loss to each layer. Post-norm "
            "norms the sum in every layer. Initially the gradient of the layers near the output is "
            "large, and Adam, whose averages are still empty, takes too large a step; a warm-up "
            "keeps the first steps small. As for regularisation: BatchNorm regularises because the "
            "output for a text depends on random other texts, which is noise. LayerNorm uses "
            "nothing of other texts, so this reason does not apply. A milder one remains: the "
            "output does not depend on the size of a vector. Only a comparison at equal training "
            "loss shows regularisation: a model that learns faster is not regularised."
        ),
        alt=(
            "Three panels. Validation loss against learning rate for pre-norm, post-norm and no "
            "norm; the same for pre-norm and post-norm with and without warm-up; and, on a few "
            "texts, validation loss against training loss with pre-norm and without norm."
        ),
        reference=(
            "Ba et al. 2016, Layer Normalization; Xiong et al. 2020, On Layer Normalization in the "
            "Transformer Architecture; Xu et al. 2019, Understanding and Improving Layer "
            "Normalization."
        ),
    )


def _rate(rate: float | None) -> str:
    return "none" if rate is None else f"{rate:g}"


def _pairs(few: dict[str, np.ndarray]) -> str:
    pairs = zip(few[PRE], few[NONE], strict=True)
    return ", ".join(f"{normed:.2f} and {bare:.2f}" for normed, bare in pairs)
