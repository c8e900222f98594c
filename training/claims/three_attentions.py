"""Claim 10: the three attentions; their weights, and models without each of them."""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from ktransformer.schedules import InverseSquareRoot
from ktransformer.text import Tokenizer
from training.claims import figures, loop, tasks
from training.claims.attention_maps import KINDS, attention_maps, by_distance, query_mask
from training.claims.date_pieces import PIECE_KINDS, TARGET_NAMES, by_piece, piece_kinds
from training.claims.finding import Finding
from training.claims.generation import greedy
from training.claims.reduced import NOTHING, REMOVED, ReducedTransformer

NAME = "three_attentions"
NUMBER = 10
SERIAL = False
TASKS = ("reading", "writing")
"""Written date to ISO 8601, with one correct answer; and ISO 8601 to any written date."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes, training, and number of examples."""

    seeds: tuple[int, ...] = (1, 2, 3)
    removed: tuple[str, ...] = REMOVED
    """Attentions to remove, after `NOTHING`."""
    d_model: int = 64
    num_layers: int = 1
    num_heads: int = 4
    steps: int = 700
    batch_size: int = 64
    examples: int = 300
    """Validation dates to generate, and to average attention over."""
    reach: int = 8
    """Maximum distance from query to key, in tokens."""


QUICK = Settings(
    seeds=(1,),
    removed=(NOTHING, KINDS[2]),
    d_model=8,
    num_heads=2,
    steps=5,
    batch_size=16,
    examples=10,
    reach=2,
)


def measure(settings: Settings) -> dict[str, Any]:
    """Trains every reduced model on both tasks, and averages the attention of the complete ones."""
    dates = tasks.dates()
    both = dict(zip(TASKS, (dates, tasks.swapped(dates)), strict=True))
    runs, maps = [], []
    for (name, task), removed in itertools.product(both.items(), settings.removed):
        make = functools.partial(_make, task, removed, settings)
        trainer = loop.Trainer(make, task.train, batch_size=settings.batch_size)
        write = tf.function(
            lambda source, model=trainer.model, length=task.validation.labels.shape[1]: greedy(
                model, source, length
            )
        )
        for seed in settings.seeds:
            trainer.fit(
                steps=settings.steps,
                learning_rate=InverseSquareRoot(4e-3, warmup_steps=60),
                seed=seed,
            )
            some = task.validation.rows(slice(0, settings.examples))
            runs.append(
                {
                    "seed": seed,
                    "task": name,
                    "removed": removed,
                    "loss": trainer.evaluate(task.validation).loss,
                    "right": share_right(write, name, some, task.tokenizer),
                }
            )
            if (name, removed) == (TASKS[0], NOTHING):
                maps.append(_summarize_maps(trainer.model, some.inputs, task.tokenizer, settings))
    return {**dataclasses.asdict(settings), "pairs": len(dates.train), "runs": runs, "maps": maps}


def _make(task: tasks.Task, removed: str, settings: Settings) -> ReducedTransformer:
    return ReducedTransformer(
        task.tokenizer.vocabulary_size,
        removed,
        num_layers=settings.num_layers,
        d_model=settings.d_model,
        num_heads=settings.num_heads,
        hidden_dim=2 * settings.d_model,
        dropout=0.0,
        max_length=64,
    )


def share_right(write: Any, name: str, split: tasks.Split, tokenizer: Tokenizer) -> float:
    """Generates a target for each source greedily; returns the share of correct answers."""
    source = split.inputs["source"]
    texts, sources, labels = (
        [text.decode() for text in tokenizer.decode(tf.constant(ids)).numpy()]
        for ids in (write(source), source, split.labels)
    )
    if name == TASKS[0]:
        return float(np.mean([text == wanted for text, wanted in zip(texts, labels, strict=True)]))
    forms = [tasks.written_forms(source) for source in sources]
    return float(np.mean([text in known for text, known in zip(texts, forms, strict=True)]))


def _summarize_maps(
    model: ReducedTransformer, inputs: dict[str, Any], tokenizer: Tokenizer, settings: Settings
) -> dict[str, list[Any]]:
    """Averages self-attention by distance, and cross-attention by kind of source piece."""
    maps = attention_maps(model, inputs)
    found: dict[str, list[Any]] = {}
    for kind in KINDS[:2]:
        weights = np.mean(maps[kind], axis=(0, 2))  # [B, T, T], over layers and heads.
        found[kind] = by_distance(weights, query_mask(kind, inputs), settings.reach)
    weights = np.mean(maps[KINDS[2]], axis=(0, 2))  # [B, T, S]
    kinds = np.stack([piece_kinds(tokenizer, ids) for ids in inputs["source"]])
    found[KINDS[2]], found["evenly"] = by_piece(weights, kinds)
    return found


def of_runs(measurements: dict[str, Any], task: str, removed: str, key: str) -> np.ndarray:
    """Returns one figure of the runs with a task and a removed attention, `[seeds]`."""
    runs = measurements["runs"]
    return np.array([r[key] for r in runs if (r["task"], r["removed"]) == (task, removed)])


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws accuracy and loss without each attention, and the mean attention weights."""
    figure, axes = figures.panels(2, rows=2)
    right, loss, distance, cross = axes
    removed = measurements["removed"]
    for axis, key in ((right, "right"), (loss, "loss")):
        for index, task in enumerate(TASKS):
            values = np.array([of_runs(measurements, task, r, key) for r in removed])
            mean = values.mean(axis=1)
            axis.bar(
                np.arange(len(removed)) + 0.4 * index - 0.2,
                mean,
                0.36,
                yerr=[mean - values.min(axis=1), values.max(axis=1) - mean],
                color=figures.COLORS[index],
                label=f"{task} dates",
            )
        axis.set_xticks(range(len(removed)), [name.replace(" ", "\n", 1) for name in removed])
        axis.tick_params(axis="x", labelsize=8)
        figures.legend(axis)
    right.set_ylim(0, 1.2)
    figures.label(right, "greedy search", "attention removed", "share of correct answers")
    figures.label(loss, "validation loss", "attention removed", "nats per token")

    reach = measurements["reach"]
    distances = np.arange(-reach, reach + 1)
    for index, kind in enumerate(KINDS[:2]):
        shown = distances if index == 0 else distances[: reach + 1]
        runs = [one[kind][: len(shown)] for one in measurements["maps"]]
        figures.band(distance, shown, runs, kind, index)
    figures.label(
        distance, "reading: by distance", "key's position - query's position, tokens", "mean weight"
    )
    distance.set_ylim(bottom=0)
    figures.legend(distance)

    shares = np.mean([one[KINDS[2]] for one in measurements["maps"]], axis=0)
    even = np.mean([one["evenly"] for one in measurements["maps"]], axis=0)
    image = cross.imshow(np.vstack([shares, even]), vmin=0, vmax=1, cmap="Blues", aspect="auto")
    cross.set_xticks(
        range(len(PIECE_KINDS)), [kind.replace(" in ", "\nin ") for kind in PIECE_KINDS]
    )
    cross.set_yticks(range(len(TARGET_NAMES) + 1), [*TARGET_NAMES, "uniform"])
    cross.grid(visible=False)
    figures.label(cross, "reading: cross-attention", "kind of source piece", "target piece")
    figure.colorbar(image, ax=cross, shrink=0.8).set_label("share of the attention", fontsize=9)
    figures.save(figure, path)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges whether a model without an attention is worse.

    A task needs an attention if the loss without it is more than 10% higher in every seed. The
    claim holds if both tasks need all three, and under a condition if at least one task needs each.
    """
    removed = measurements["removed"]
    needed = {
        task: [
            kind
            for kind in removed[1:]
            if all(
                of_runs(measurements, task, kind, "loss")
                > 1.1 * of_runs(measurements, task, NOTHING, "loss")
            )
        ]
        for task in TASKS
    }
    spare = [
        f"{task} without {kind}"
        for task in TASKS
        for kind in removed[1:]
        if kind not in needed[task]
    ]
    if not spare:
        verdict = "holds"
    else:
        somewhere = {kind for kinds in needed.values() for kind in kinds}
        verdict = "holds only when" if somewhere == set(removed[1:]) else "does not hold"
    return Finding(
        title="The three attentions",
        claim=(
            "A Transformer needs all three attentions: encoder self-attention, decoder "
            "self-attention and cross-attention."
        ),
        measured=(
            f"Models of {measurements['num_layers']} + {measurements['num_layers']} layers, "
            f"trained for {measurements['steps']} updates with each attention removed from the "
            "start (a subclass of the attention with an output of zero, so that only the residual "
            "connection remains). Two tasks on the same pairs: reading converts a written date to "
            "the form 2026-03-03, with one correct answer; writing converts that form to a date of "
            "any of the 23 locales, where every usual form is correct. In the complete model that "
            "reads: the mean attention by distance, and by kind of source piece."
        ),
        outcome=(
            "The table shows the share of dates that greedy search generates correctly, and the "
            "loss on validation dates. "
            f"{_describe_attention(measurements)}\n\n{_table(measurements)}"
        ),
        verdict=verdict,
        condition=(
            f"the task needs each: {' and '.join(spare)} are as good here, or nearly so"
            if verdict == "holds only when"
            else ""
        ),
        explanation=(
            "Cross-attention is the only path from the source to the target: without it the "
            "decoder can only guess. Encoder self-attention tells a piece about its neighbours: "
            "whether a digit belongs to a year or to a day, whether a syllable belongs to March or "
            "to May. The decoder can find out part of that itself, because it may attend to "
            "several source pieces; and in an ISO date the position alone gives the meaning of a "
            "digit. Decoder self-attention tells what has been generated so far. An ISO date needs "
            "little of it: the position says which digit is next, and the source says its value. A "
            "task with many correct answers is different: a date begun in Spanish must go on in "
            "Spanish, and only the generated tokens say that it is Spanish. So which attention "
            "matters depends on where a task's information is. Attention maps show where a layer "
            "attends, not what it takes from there: only removal shows what a model needs."
        ),
        alt=(
            "Four panels: bars of the share of correct answers and of the loss with each attention "
            "removed, for reading and writing dates; the mean weight by distance for both "
            "self-attentions; a table of cross-attention, target pieces against kinds of source "
            "pieces."
        ),
        reference=(
            "Vaswani et al. 2017, section 3.2.3; Jain and Wallace 2019 (what attention maps do not "
            "show)."
        ),
    )


def _table(measurements: dict[str, Any]) -> str:
    """Returns a Markdown table of accuracy and loss without each attention."""
    heads = [f"{task}: {what}" for task in TASKS for what in ("correct", "nats per token")]
    lines = [f"| removed | {' | '.join(heads)} |", "| --- |" + " ---: |" * len(heads)]
    for kind in measurements["removed"]:
        cells = []
        for task in TASKS:
            cells.append(f"{of_runs(measurements, task, kind, 'right').mean():.1%}")
            cells.append(f"{of_runs(measurements, task, kind, 'loss').mean():.2f}")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _describe_attention(measurements: dict[str, Any]) -> str:
    """Describes the mean attention weights of the complete model."""
    means = {
        kind: np.mean([one[kind] for one in measurements["maps"]], axis=0)
        for kind in (*KINDS, "evenly")
    }
    encoder, decoder, cross, even = means.values()
    here = measurements["reach"]
    return (
        f"In the model that reads, the encoder gives {encoder[here]:.0%} of its attention to the "
        f"position itself and {encoder[here - 1] + encoder[here + 1]:.0%} to its two neighbours, "
        f"the decoder {decoder[here]:.0%} to the newest token. For the digits of the year, "
        f"{cross[1:5, 0].mean():.0%} of the cross-attention is on the year of the source "
        f"({even[0]:.0%} if uniform); for those of the day, {cross[9:11, 1].mean():.0%} is on a "
        f"month or day in digits ({even[1]:.0%})."
    )
