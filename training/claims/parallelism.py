"""Claim 8: one pass over a known target against one step per token: equal logits, unequal time."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ktransformer.models import Transformer
from ktransformer.schedules import InverseSquareRoot
from ktransformer.text import END_ID, PAD_ID, START_ID, UNKNOWN_ID
from training.claims import figures, loop, scores, tasks
from training.claims.finding import Finding
from training.claims.generation import METHODS, greedy, known_target_methods
from training.claims.timing import medians

NAME = "parallelism"
NUMBER = 8
SERIAL = True
TOLERANCE = 1e-4
"""Maximum difference of equal logits: float32 sums depend on their order."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes, timings and training."""

    seeds: tuple[int, ...] = (1, 2, 3)
    lengths: tuple[int, ...] = (8, 16, 32, 64, 128)
    """T, target tokens."""
    batch_sizes: tuple[int, ...] = (1, 16)
    source_length: int = 16
    d_model: int = 64
    num_layers: int = 2
    vocabulary_size: int = 300
    rounds: int = 5
    """Timings of each method per seed."""
    steps: int = 300
    """Updates of the models that read dates."""


QUICK = Settings(
    seeds=(1,), lengths=(4, 8), batch_sizes=(1,), d_model=8, num_layers=1, rounds=1, steps=10
)


def measure(settings: Settings) -> dict[str, Any]:
    """Times the methods on random ids, and evaluates models that read dates in two ways."""
    keras.utils.set_random_seed(settings.seeds[0])
    model = _model(settings.vocabulary_size, settings)
    model.build()
    methods = {
        name: tf.function(method, reduce_retracing=True)
        for name, method in known_target_methods(model).items()
    }
    timed = [
        {"batch_size": rows, "length": length, **_compare(methods, rows, length, seed, settings)}
        for rows, length, seed in itertools.product(
            settings.batch_sizes, settings.lengths, settings.seeds
        )
    ]
    judged = [_evaluate(seed, settings) for seed in settings.seeds]
    return {**dataclasses.asdict(settings), "timed": timed, "judged": judged}


def _model(vocabulary_size: int, settings: Settings) -> Transformer:
    return Transformer(
        vocabulary_size,
        num_layers=settings.num_layers,
        d_model=settings.d_model,
        num_heads=4,
        hidden_dim=4 * settings.d_model,
        dropout=0.0,
        max_length=128,
    )


def _compare(
    methods: dict[str, Any], rows: int, length: int, seed: int, settings: Settings
) -> dict[str, Any]:
    """Times the methods on random ids, and measures the largest difference of their logits."""
    draw = np.random.default_rng(seed)
    lowest = max(PAD_ID, UNKNOWN_ID, START_ID, END_ID) + 1
    source, target = (
        tf.constant(draw.integers(lowest, settings.vocabulary_size, (rows, size)), tf.int32)
        for size in (settings.source_length, length)
    )
    logits = [methods[name](source, target).numpy() for name in METHODS]
    calls = {
        name: lambda method=method: method(source, target).numpy()
        for name, method in methods.items()
    }
    return {
        "seed": seed,
        "difference": max(float(np.abs(other - logits[0]).max()) for other in logits[1:]),
        "seconds": medians(calls, rounds=settings.rounds),
    }


def _evaluate(seed: int, settings: Settings) -> dict[str, Any]:
    """Trains a model and evaluates it with teacher forcing and by greedy search."""
    task = tasks.dates()
    keras.utils.set_random_seed(seed)
    model = _model(task.tokenizer.vocabulary_size, settings)
    loop.fit(
        model,
        task.train,
        steps=settings.steps,
        batch_size=64,
        learning_rate=InverseSquareRoot(4e-3, warmup_steps=60),
        seed=seed,
    )
    source, labels = task.validation.inputs["source"], task.validation.labels
    forced = scores.predictor(model)
    generate = tf.function(lambda source: greedy(model, source, labels.shape[1]))
    predicted = np.argmax(forced(task.validation.inputs), axis=-1)
    written = generate(source).numpy()
    real = labels != PAD_ID
    whole = [((tokens == labels) | ~real).all(axis=1) for tokens in (predicted, written)]
    calls = {
        "forced": lambda: forced(task.validation.inputs).numpy(),
        "generated": lambda: generate(source).numpy(),
    }
    return {
        "seed": seed,
        "tokens": [float((t == labels)[real].mean()) for t in (predicted, written)],
        "exact": [float(right.mean()) for right in whole],
        "agree": float((whole[0] == whole[1]).mean()),
        "seconds": medians(calls, rounds=settings.rounds),
    }


def ratios(measurements: dict[str, Any], method: str, rows: int) -> np.ndarray:
    """Returns the time of a method relative to one pass, `[seeds, lengths]`."""
    return np.array(
        [
            [
                run["seconds"][method] / run["seconds"][METHODS[0]]
                for run in measurements["timed"]
                if (run["seed"], run["batch_size"]) == (seed, rows)
            ]
            for seed in measurements["seeds"]
        ]
    )


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the times, their ratios, and both evaluations of the trained models."""
    lengths, first = measurements["lengths"], measurements["batch_sizes"][0]
    figure, (times, slower, judged) = figures.panels(3)
    for index, method in enumerate(METHODS):
        runs = [
            [
                1e3 * run["seconds"][method]
                for run in measurements["timed"]
                if (run["seed"], run["batch_size"]) == (seed, first)
            ]
            for seed in measurements["seeds"]
        ]
        figures.band(times, lengths, runs, method, index)
    figures.label(
        times, f"time for T tokens, batch {first}", "T, target tokens", "milliseconds, one thread"
    )
    for index, rows in enumerate(measurements["batch_sizes"]):
        runs = ratios(measurements, METHODS[1], rows)
        figures.band(slower, lengths, runs, f"with a cache, batch {rows}", 2 * index + 1)
    figures.band(
        slower, lengths, ratios(measurements, METHODS[2], first), f"without, batch {first}", 2
    )
    slower.axhline(1, color=figures.MUTED, linestyle=":", label="one pass")
    figures.label(slower, "steps against one pass", "T, target tokens", "times as long")
    for axis in (times, slower):
        axis.set_xscale("log", base=2)
        axis.set_xticks(lengths, lengths)
        axis.set_yscale("log")
        figures.legend(axis)
    names = ("after true tokens", "after its own")
    for index, name in enumerate(names):
        values = np.array(
            [[run["tokens"][index], run["exact"][index]] for run in measurements["judged"]]
        )
        mean = values.mean(axis=0)
        judged.bar(
            np.arange(2) + 0.4 * index - 0.2,
            mean,
            0.36,
            yerr=[mean - values.min(axis=0), values.max(axis=0) - mean],
            color=figures.COLORS[index],
            label=name,
        )
    judged.set_xticks(range(2), ["correct tokens", "correct dates"])
    judged.set_ylim(0, 1.3)
    figures.label(judged, "two evaluations of the same models", "", "share of validation dates")
    figures.legend(judged, loc="upper right")
    figures.save(figure, path)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges whether the logits are equal, and how much slower the steps are.

    The claim does not hold if the logits or the greedy results differ, or if the steps take at most
    1.2 times as long at the greatest length in every batch. It holds only for small batches if they
    take at most twice as long in the largest batch.
    """
    longest = measurements["lengths"][-1]
    difference = max(run["difference"] for run in measurements["timed"])
    agree = min(run["agree"] for run in measurements["judged"])
    slower = {
        rows: float(ratios(measurements, METHODS[1], rows)[:, -1].mean())
        for rows in measurements["batch_sizes"]
    }
    uncached = float(ratios(measurements, METHODS[2], measurements["batch_sizes"][0])[:, -1].mean())
    equal = difference <= TOLERANCE and agree == 1
    if not equal or max(slower.values()) <= 1.2:
        verdict = "does not hold"
    else:
        verdict = "holds" if slower[max(slower)] > 2 else "holds only when"
    tokens, exact, seconds = _evaluations(measurements)
    times = ", ".join(f"{value:.1f} in a batch of {rows}" for rows, value in slower.items())
    return Finding(
        title="Parallel in training, serial in decoding",
        claim=(
            "A Transformer trains on all positions of a text at once, but generates one token "
            "after the other."
        ),
        measured=(
            f"An encoder-decoder of {measurements['num_layers']} + {measurements['num_layers']} "
            f"layers, width {measurements['d_model']}: the logits of a known target of "
            f"{measurements['lengths'][0]} to {longest} random tokens, from one pass, from one "
            "step per token with a cache of keys and values, and from one step per token that "
            "recomputes everything before it. Then models that read dates "
            f"({measurements['steps']} updates): validation given the true previous tokens "
            "(teacher forcing), and given the model's own."
        ),
        outcome=(
            f"The logits differ by {difference:.0e} at most. The time for {longest} tokens in "
            f"steps with a cache, as a multiple of one pass: {times}. Without a cache: "
            f"{uncached:.0f} in a batch of {measurements['batch_sizes'][0]}. Of the validation "
            f"dates {exact[0]:.1%} are correct given the true previous tokens and {exact[1]:.1%} "
            f"in greedy search; the two agree for {agree:.0%} of the dates. Token accuracy is "
            f"{tokens[0]:.1%} after true tokens and {tokens[1]:.1%} after the model's own. One "
            f"pass over the validation dates takes {1e3 * seconds[0]:.0f} ms, greedy search "
            f"{1e3 * seconds[1]:.0f} ms."
        ),
        verdict=verdict,
        condition=(
            "a step does not keep the machine busy, as with one text at a time; in a "
            f"batch of {max(slower)} one thread is busy either way"
            if verdict == "holds only when"
            else ""
        ),
        explanation=(
            "In training the target is known, so the input of every position is known too, and the "
            "positions are rows of the same matrix products; the causal mask restricts each row to "
            "the tokens that it would see in decoding. Therefore the logits are equal. In decoding "
            "a token must be chosen before the next step can begin, so T steps follow each other. "
            "With a cache the amount of arithmetic is nearly the same; the length of the chain is "
            "not. One thread gains from a single pass because it reads the weights once and "
            "computes larger products; a processor with thousands of parallel units gains far "
            "more. Without a cache the arithmetic grows too, by about T/2. Loss, perplexity and "
            "token accuracy on validation data come from one parallel pass, as in training. So "
            "does the exact match of greedy search: if each token is the most probable one after "
            "the true ones, greedy search generates that text. But token accuracy after true "
            "tokens says nothing about a model after its first mistake, and BLEU or a beam need "
            "real decoding."
        ),
        alt=(
            "Three panels: milliseconds for T target tokens in one pass, in steps with and without "
            "a cache; how many times as long as one pass the steps take; and the share of correct "
            "tokens and dates after true tokens and after the model's own."
        ),
        reference="Vaswani et al. 2017, sections 1 and 3.1; Williams and Zipser 1989.",
    )


def _evaluations(measurements: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns means over seeds of token accuracy, date accuracy and seconds.

    Each is an array `[2]`: teacher forcing, greedy search.
    """
    runs = measurements["judged"]
    tokens, exact = (np.mean([run[key] for run in runs], axis=0) for key in ("tokens", "exact"))
    seconds = [
        np.mean([run["seconds"][method] for run in runs]) for method in ("forced", "generated")
    ]
    return tokens, exact, np.array(seconds)
