"""Claim 11: the padding mask and the causal mask, and models without each."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.models import Transformer
from ktransformer.schedules import InverseSquareRoot
from ktransformer.text import PAD_ID
from training.claims import figures, loop, scores, tasks
from training.claims.finding import Finding
from training.claims.generation import greedy_without_cache
from training.claims.unmasked import (
    BOTH,
    LEAKING,
    UNPADDED,
    VARIANTS,
    TransformerWithoutPaddingMask,
)

NAME = "two_masks"
NUMBER = 11
SERIAL = False
MASK_REMOVED = "padding mask removed after training"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes, training, and amounts of padding."""

    seeds: tuple[int, ...] = (1, 2, 3)
    d_model: int = 64
    num_layers: int = 1
    steps: int = 700
    batch_size: int = 64
    examples: int = 300
    """Validation dates to evaluate on."""
    more_padding: tuple[int, ...] = (8, 16, 32, 64)
    """Numbers of pads to add to each source; in training all sources have one length."""
    window: int = 20
    """Updates per point of the plotted training loss."""


QUICK = Settings(
    seeds=(1,), d_model=8, steps=4, batch_size=8, examples=10, more_padding=(8,), window=2
)


def measure(settings: Settings) -> dict[str, Any]:
    """Trains each variant; evaluates teacher forcing, greedy search and amounts of padding."""
    task = tasks.dates()
    some = task.validation.rows(slice(0, settings.examples))
    width = some.inputs["source"].shape[1]
    without = loop.build(_make(TransformerWithoutPaddingMask, task, settings), some)
    predict_without = scores.predictor(without)
    runs = []
    for name, kind in VARIANTS.items():
        make = functools.partial(_make, kind, task, settings)
        trainer = loop.Trainer(make, task.train, batch_size=settings.batch_size)
        predict = scores.predictor(trainer.model)
        for seed in settings.seeds:
            losses = trainer.fit(
                steps=settings.steps,
                learning_rate=InverseSquareRoot(4e-3, warmup_steps=60),
                seed=seed,
            )
            run = {"seed": seed, "variant": name, **evaluate(predict, some)}
            run["training"] = np.reshape(losses, (-1, settings.window)).mean(axis=1).tolist()
            if name != LEAKING:
                run["padded"] = exact_by_padding(predict, some, settings.more_padding)
            runs.append(run)
            if name == BOTH:
                without.set_weights(trainer.model.get_weights())
                padded = exact_by_padding(predict_without, some, settings.more_padding)
                runs.append({"seed": seed, "variant": MASK_REMOVED, "padded": padded})
    counts = {"pairs": len(task.train), "width": width}
    return {**dataclasses.asdict(settings), **counts, "runs": runs}


def evaluate(predict: Any, split: tasks.Split) -> dict[str, Any]:
    """Evaluates a model with teacher forcing and by greedy search."""
    written = greedy_without_cache(predict, split.inputs["source"], split.labels.shape[1])
    real = split.labels != PAD_ID
    return {
        "forced": dataclasses.asdict(scores.evaluation(predict(split.inputs), split.labels)),
        "written": float(((written == split.labels) | ~real).all(axis=1).mean()),
    }


def _make(kind: type[Transformer], task: tasks.Task, settings: Settings) -> Transformer:
    return kind(
        task.tokenizer.vocabulary_size,
        num_layers=settings.num_layers,
        d_model=settings.d_model,
        num_heads=4,
        hidden_dim=2 * settings.d_model,
        dropout=0.0,
        max_length=128,
    )


def exact_by_padding(
    predict: Any, split: tasks.Split, more_padding: tuple[int, ...]
) -> list[float]:
    """Evaluates the same examples with other amounts of padding after their sources.

    Returns:
        The exact match without padding (examples grouped by length), with the padding of training,
        and with each number of additional pads.
    """
    source = split.inputs["source"]
    lengths = (source != PAD_ID).sum(axis=1)
    alone = [
        _exact(predict, split.rows(np.flatnonzero(lengths == length)), length - source.shape[1])
        * (lengths == length).mean()
        for length in np.unique(lengths)
    ]
    return [float(sum(alone)), *(_exact(predict, split, more) for more in (0, *more_padding))]


def _exact(predict: Any, split: tasks.Split, more: int) -> float:
    """Returns the exact match with `more` additional pads per source, or `-more` fewer."""
    source = split.inputs["source"]
    if more < 0:
        source = source[:, :more]
    else:
        source = np.pad(source, ((0, 0), (0, more)), constant_values=PAD_ID)
    logits = predict({**split.inputs, "source": source})
    return scores.evaluation(logits, split.labels).exact


def of_variant(measurements: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns the runs of a variant, one per seed."""
    return [run for run in measurements["runs"] if run["variant"] == name]


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the training losses, both evaluations, and the exact match against padding."""
    figure, (training, judged, padded) = figures.panels(3)
    for index, name in enumerate(VARIANTS):
        losses = [run["training"] for run in of_variant(measurements, name)]
        updates = measurements["window"] * (np.arange(len(losses[0])) + 0.5)
        figures.band(training, updates, losses, name, index, marker=False)
    training.set_yscale("log")
    figures.label(training, "training loss", "updates", "cross-entropy, nats per token")
    figures.legend(training)

    for index, name in enumerate(VARIANTS):
        runs = of_variant(measurements, name)
        values = np.array([[run["forced"]["exact"], run["written"]] for run in runs])
        mean = values.mean(axis=0)
        bars = judged.bar(
            np.arange(2) + 0.27 * (index - 1),
            mean,
            0.25,
            yerr=[mean - values.min(axis=0), values.max(axis=0) - mean],
            color=figures.COLORS[index],
            label=name,
        )
        judged.bar_label(bars, fmt="%.2f", padding=2, fontsize=8, color=figures.INK)
    judged.set_xticks(range(2), ["after true tokens", "after its own\n(greedy search)"])
    judged.set_ylim(0, 1.45)
    figures.label(judged, "validation dates", "", "share of correct dates")
    figures.legend(judged, loc="upper right")

    places = np.arange(len(measurements["more_padding"]) + 2)
    for index, name in enumerate((BOTH, UNPADDED, MASK_REMOVED)):
        runs = [run["padded"] for run in of_variant(measurements, name)]
        color = {MASK_REMOVED: 3}.get(name, index)
        figures.band(padded, places, runs, name, color)
    names = ["none", "as\ntrained", *(f"+{more}" for more in measurements["more_padding"])]
    padded.set_xticks(places, names)
    padded.set_ylim(0, 1.35)
    figures.label(padded, "the same dates, padded", "pads after a source", "share of correct dates")
    figures.legend(padded, loc="upper center")
    figures.save(figure, path)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges whether each mask matters; a difference of 0.05 in accuracy counts.

    The causal mask matters if without it the final training loss is lower in every seed and greedy
    search is less accurate by more than 0.05. The padding mask matters if without it accuracy with
    the padding of training is lower by more than 0.05. The claim holds if both matter, and under a
    condition if accuracy without the padding mask drops only with other amounts of padding.
    """
    both, unpadded, leaking = (of_variant(measurements, name) for name in VARIANTS)
    padded = {
        name: np.mean([run["padded"] for run in of_variant(measurements, name)], axis=0)
        for name in (BOTH, UNPADDED, MASK_REMOVED)
    }
    last = [[run["training"][-1] for run in runs] for runs in (both, unpadded, leaking)]
    written = [np.mean([run["written"] for run in runs]) for runs in (both, unpadded, leaking)]
    forced = np.mean([run["forced"]["exact"] for run in leaking])
    loss = [np.mean([run["forced"]["loss"] for run in runs]) for runs in (both, unpadded, leaking)]
    leaks = all(np.array(last[2]) < np.array(last[0])) and written[0] - written[2] > 0.05
    lost = padded[BOTH] - padded[UNPADDED]
    if leaks and lost[1] > 0.05:
        verdict = "holds"
    else:
        verdict = "holds only when" if leaks and lost.max() > 0.05 else "does not hold"
    names = ["no padding", "that of training"]
    names += [f"{more} pads more" for more in measurements["more_padding"]]
    worst = int(lost.argmax())
    return Finding(
        title="The two masks",
        claim=(
            "A Transformer needs two masks: one that hides padding, and one that hides the future "
            "from the decoder."
        ),
        measured=(
            f"Models of {measurements['num_layers']} + {measurements['num_layers']} layers that "
            f"read dates ({measurements['steps']} updates, sources padded to "
            f"{measurements['width']} tokens), trained with both masks, without the padding mask "
            "(an embedding that marks padding as real), and without the causal mask (a decoder "
            f"block that attends to later tokens). Evaluated on {measurements['examples']} "
            "validation dates given the true previous tokens, in greedy search (every step a full "
            "pass over the tokens so far), and with other amounts of padding. Also the model with "
            "both masks, with its padding mask removed after training."
        ),
        outcome=(
            f"Without the causal mask the final training loss is {np.mean(last[2]):.2g} instead of "
            f"{np.mean(last[0]):.2g} nats, and {forced:.1%} of the dates are correct given the "
            f"true tokens, but {written[2]:.1%} in greedy search ({written[0]:.1%} with both "
            "masks). A model trained without the padding mask has a validation loss of "
            f"{loss[1]:.3f} ({loss[0]:.3f} with it), and {padded[UNPADDED][1]:.1%} correct dates "
            f"({padded[BOTH][1]:.1%}). Compared with the model with both masks it is worst with "
            f"{names[worst]}: {padded[UNPADDED][worst]:.1%} against {padded[BOTH][worst]:.1%}. "
            f"With the mask the shares differ by {np.ptp(padded[BOTH]):.1%} over all amounts of "
            "padding; with the mask removed after training they are "
            f"{padded[MASK_REMOVED].min():.1%} to {padded[MASK_REMOVED].max():.1%}."
        ),
        verdict=verdict,
        condition=(
            "inference has other padding than training, as far as the padding mask is concerned; "
            "the causal mask is needed in any case"
            if verdict == "holds only when"
            else ""
        ),
        explanation=(
            "The causal mask is for training alone. Training predicts all positions at once, so "
            "the input contains the token to predict, one position later; without the mask the "
            "decoder learns to copy it. The training loss looks excellent, and so does a "
            "validation loss with true tokens, which leaks in the same way: only generation, where "
            "there is no next token to copy, shows the fault. Decoding with a cache needs no such "
            "mask, because later tokens do not exist yet. The padding mask is different. A pad is "
            "a token with its own vector, so a model that always sees pads can learn to ignore "
            "them, or even to use them as a sink of attention. It cannot learn an amount of "
            "padding that it never saw: every pad takes a little of the attention. With the mask "
            "the result for a text does not depend on its padding, so batches of any shape give "
            "the same answer; a mask of training must be there at inference. The loss must ignore "
            "padding too, as it did here in all models: otherwise a model gets credit for "
            "predicting pads."
        ),
        alt=(
            "Three panels: training loss against updates for the three models; the share of "
            "correct dates after true tokens and in greedy search; and the share against the "
            "amount of padding, with the padding mask, trained without it, and with it removed "
            "later."
        ),
        reference="Vaswani et al. 2017, section 3.2.3.",
    )
