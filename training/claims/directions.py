"""Claim 5: an autoregressive against an autoencoding (masked) model of the same size."""

import dataclasses
import functools
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.layers import DecoderBlock
from ktransformer.schedules import InverseSquareRoot
from ktransformer.text import PAD_ID
from training.claims import figures, loop, scores, tasks
from training.claims.finding import Finding
from training.claims.language_model import LanguageModel
from training.claims.language_questions import (
    FILLERS,
    TEXTS,
    Models,
    continuation_perplexities,
    fill_accuracies,
    nats_per_token,
    pair_sums,
)
from training.claims.language_scores import masked_split
from training.claims.unmasked import NonCausalBlock

NAME = "directions"
NUMBER = 5
SERIAL = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes, trainings, and amounts of validation data."""

    seeds: tuple[int, ...] = (1, 2, 3)
    max_length: int = 24
    vocabulary_size: int = 400
    d_model: int = 64
    num_layers: int = 2
    steps: int = 1500
    """Updates of the autoregressive model, and of the first evaluation of the masked one."""
    masked_steps: int = 4500
    """Updates of the masked model in the end."""
    warmup_steps: int = 400
    batch_size: int = 48
    copies: int = 10
    """Copies of each text for the masked model, with different hidden tokens."""
    scored_tokens: int = 100
    """Validation tokens for the method that scores every candidate; the others predict all."""
    pair_texts: int = 12
    """Validation texts with two hidden tokens, for the sums over all pairs of ids."""
    prompts: int = 100
    """Validation texts to continue."""
    prompt_length: int = 8
    """Tokens of a text before its continuation."""


QUICK = Settings(
    seeds=(1,),
    max_length=12,
    vocabulary_size=120,
    d_model=8,
    num_layers=1,
    steps=5,
    masked_steps=8,
    copies=1,
    scored_tokens=3,
    pair_texts=2,
    prompts=4,
    prompt_length=8,
)


def measure(settings: Settings) -> dict[str, Any]:
    """Trains both models with each seed, and evaluates them on the same texts."""
    task = tasks.sentences(settings.max_length, vocabulary_size=settings.vocabulary_size)
    texts = task.validation.labels
    whole = texts[(texts != PAD_ID).all(axis=1)][: settings.prompts, :-1]  # Without end tokens.
    trained = [_train(task, seed, settings) for seed in settings.seeds]
    runs = []
    for place, (seed, models) in enumerate(zip(settings.seeds, trained, strict=True)):
        draw = np.random.default_rng(seed)
        some = draw.permutation(texts)
        judges = trained[(place + 1) % len(trained)]
        runs.append(
            {
                "seed": seed,
                "nats": nats_per_token(models, texts),
                "filled": fill_accuracies(models, texts, settings.scored_tokens, draw),
                "sums": pair_sums(models, some[: settings.pair_texts], draw),
                "perplexity": continuation_perplexities(
                    models, judges, whole, settings.prompt_length, draw
                ),
            }
        )
    counts = {"texts": len(task.train), "pieces": task.tokenizer.vocabulary_size}
    return {**dataclasses.asdict(settings), **counts, "runs": runs}


def _train(task: tasks.Task, seed: int, settings: Settings) -> Models:
    """Trains a causal and a masked model of the same size; compiles them."""
    mask_id = task.tokenizer.vocabulary_size
    hidden = masked_split(task.train.labels, mask_id, settings.copies, seed)
    rate = InverseSquareRoot(4e-3, settings.warmup_steps)

    def train(block: type[DecoderBlock], split: tasks.Split) -> loop.Trainer:
        make = functools.partial(_make, block, mask_id + 1, settings)
        trainer = loop.Trainer(make, split, batch_size=settings.batch_size)
        trainer.fit(steps=settings.steps, learning_rate=rate, seed=seed)
        return trainer

    causal = train(DecoderBlock, task.train).model
    trainer = train(NonCausalBlock, hidden)
    masked = loop.build(_make(NonCausalBlock, mask_id + 1, settings), hidden)
    masked.set_weights(trainer.model.get_weights())
    trainer.train(
        steps=settings.masked_steps - settings.steps,
        learning_rate=lambda number: rate(settings.steps + number),
        seed=[seed, settings.steps],
    )
    return Models(*map(scores.predictor, (causal, masked, trainer.model)), mask_id)


def _make(block: type[DecoderBlock], vocabulary_size: int, settings: Settings) -> LanguageModel:
    return LanguageModel(
        vocabulary_size,
        num_layers=settings.num_layers,
        d_model=settings.d_model,
        block=block,
        dropout=0.1,
        norm_first=True,
    )


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the accuracy on hidden tokens, the sums over all pairs, and the perplexities."""
    figure, (filled, sums, continued) = figures.panels(3)
    values = np.array([run["filled"] for run in measurements["runs"]])
    _bars(filled, values, FILLERS, 0)
    figures.label(filled, "one hidden token", "", "accuracy")

    for index, name in enumerate(("autoregressive, chain rule", "masked, exp(PLL)")):
        found = np.sort(np.concatenate([run["sums"][index] for run in measurements["runs"]]))
        sums.plot(
            np.arange(len(found)) + 1,
            found,
            figures.MARKERS[index],
            color=figures.COLORS[index],
            markersize=4,
            label=name,
        )
    sums.axhline(1, color=figures.MUTED, linestyle=":", label="a probability")
    sums.set_ylim(bottom=0)
    figures.label(sums, "two tokens hidden", "text, in order of the sum", "sum over all pairs")
    figures.legend(sums)

    for index, judge in enumerate(("judged by an autoregressive model", "by a masked one")):
        values = np.array([run["perplexity"][index] for run in measurements["runs"]])
        _bars(continued, values, TEXTS, index, offset=0.4 * index - 0.2, width=0.36, label=judge)
    continued.set_yscale("log")
    continued.set_ylim(top=continued.get_ylim()[1] * 4)
    figures.label(continued, "continuations", "", "perplexity by a model of another seed")
    figures.legend(continued)
    figures.save(figure, path)


def _bars(
    axis: figures.Axes,
    values: np.ndarray,
    names: tuple[str, ...],
    index: int,
    *,
    offset: float = 0.0,
    width: float = 0.6,
    **options: Any,
) -> None:
    """Draws the mean over seeds of `[seeds, names]` as bars with the range of the seeds."""
    mean = values.mean(axis=0)
    axis.bar(
        np.arange(len(names)) + offset,
        mean,
        width,
        yerr=[mean - values.min(axis=0), values.max(axis=0) - mean],
        color=figures.COLORS[index],
        **options,
    )
    lines = [
        ",\n".join(textwrap.fill(part, 10, break_long_words=False) for part in name.split(", "))
        for name in names
    ]
    axis.set_xticks(range(len(names)), lines)
    axis.tick_params(axis="x", labelsize=7)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges accuracy on hidden tokens, normalisation of the scores, and continuations.

    All values are means over seeds. The claim does not hold unless, in the end, the masked model is
    more accurate than the autoregressive one from the left side; its continuations have a higher
    perplexity under an autoregressive judge; the sums of the chain rule are within 0.001 of 1; and
    the median sum of exp(PLL) differs from 1 by more than 0.05. Two conditions are possible: more
    updates, if the masked model is not more accurate after as many; and one pass per model, if the
    autoregressive one gains more than 0.02 by scoring every candidate.
    """
    runs = measurements["runs"]
    filled = np.mean([run["filled"] for run in runs], axis=0)  # By `FILLERS`.
    chain, pseudo = (np.concatenate([run["sums"][i] for run in runs]) for i in (0, 1))
    judged = np.mean([run["perplexity"] for run in runs], axis=0)  # [judges, texts]
    nats = np.mean([run["nats"] for run in runs], axis=0)
    normalized = np.abs(chain - 1).max() < 1e-3 and np.median(np.abs(pseudo - 1)) > 0.05
    conditions = []
    if filled[1] <= filled[0]:
        times = measurements["masked_steps"] / measurements["steps"]
        conditions.append(f"the masked model gets {times:g} times as many updates")
    if filled[3] > filled[0] + 0.02:
        conditions.append(
            "each model runs once (scoring every candidate, the autoregressive one uses the right "
            "side too; run repeatedly, the masked one generates text, if worse)"
        )
    if not (normalized and filled[2] > filled[0] and judged[0, 1] < judged[0, 2]):
        verdict = "does not hold"
    else:
        verdict = "holds only when" if conditions else "holds"
    return Finding(
        title="Autoregressive against autoencoding",
        claim=(
            "An autoregressive model sees only the left side but scores and generates text; an "
            "autoencoding (masked) one sees both sides but does neither."
        ),
        measured=(
            f"Two models of the same layers and size ({measurements['num_layers']} layers, width "
            f"{measurements['d_model']}, dropout 0.1), {measurements['steps']:,} updates each, on "
            f"{measurements['texts']:,} texts of up to {measurements['max_length']} pieces of "
            f"Python's documentation, {measurements['pieces']} different pieces: one with the "
            "causal mask, which predicts each next token, and one without it, which predicts "
            "hidden tokens (15%). The masked model trains on to "
            f"{measurements['masked_steps']:,} updates; all figures without a number of updates "
            "are from then. On validation texts: each hidden token predicted "
            f"({measurements['scored_tokens']} per seed by scoring every candidate); the score of "
            f"a text; for {len(chain)} texts with two neighbouring tokens hidden, the sum of a "
            f"model's scores of all {(measurements['pieces'] + 1) ** 2:,} pairs; and continuations "
            f"after {measurements['prompt_length']} tokens, sampled from each model and scored by "
            "models of another seed."
        ),
        outcome=(
            f"Accuracy on hidden tokens: {filled[0]:.0%} from the left side; {filled[1]:.0%} by "
            f"the masked model after as many updates, {filled[2]:.0%} after more; {filled[3]:.0%} "
            "by the autoregressive one when it scores the whole text with every candidate. Loss "
            f"per token: {nats[0]:.2f} nats by the chain rule, {nats[1]:.2f} by the masked model "
            "with each token hidden in turn (pseudo-log-likelihood). The sums over all pairs are "
            f"{chain.min():.3f} to {chain.max():.3f} by the chain rule, and {pseudo.min():.2f} to "
            f"{pseudo.max():.2f} for the pseudo-likelihood. The perplexity of the "
            f"continuations:\n\n{_table(judged)}"
        ),
        verdict=verdict,
        condition=" and ".join(conditions) if verdict == "holds only when" else "",
        explanation=(
            "The chain rule factors the probability of a text into P(first) · P(second after "
            "first) and so on: an autoregressive model learns exactly these factors. One pass "
            "gives all of them, their product is a probability, and sampling token after token "
            "samples texts. A masked model learns each token given all others. It has more "
            "context, but each update trains it on the hidden 15% of the tokens alone, while the "
            "other trains on all, so it needs more updates. Its factors do not form one chain: "
            "each is conditioned on the tokens that the others predict. Their product is a useful "
            "score but not a probability, as the sums show, and the two losses per token are not "
            "comparable. An autoregressive model can use the right side too: a wrong token makes "
            "the later ones less probable, so scoring the whole text with each candidate uses "
            "them, at the cost of one pass per candidate. A masked model can also generate text: "
            "it masks the rest and fills it in. But training hid few tokens, not most, and tokens "
            "filled in at once do not agree with each other."
        ),
        alt=(
            "Three panels: the accuracy of four methods on hidden tokens; the sums over all "
            "pairs for each text, which are 1 for the autoregressive model only; the perplexity of "
            "real and drawn continuations for two judges."
        ),
        reference=(
            "Devlin et al. 2019 (masked); Radford et al. 2018 (autoregressive); Salazar et al. "
            "2020 (pseudo-log-likelihood); Wang and Cho 2019 (generation with a masked model)."
        ),
    )


def _table(perplexity: np.ndarray) -> str:
    """Returns a Markdown table of perplexities `[judges, texts]`."""
    lines = [
        "| continuation | perplexity, autoregressive judge | masked judge |",
        "| --- | ---: | ---: |",
    ]
    for name, one, other in zip(TEXTS, *perplexity, strict=True):
        lines.append(f"| {name} | {one:.0f} | {other:.0f} |")
    return "\n".join(lines)
