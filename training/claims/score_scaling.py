"""Claim 6: dividing the scores by sqrt(d_k) keeps the softmax from saturating."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ktransformer.layers import DecoderBlock, MultiHeadSelfAttention
from training.claims import figures, loop, tasks
from training.claims.finding import Finding
from training.claims.language_model import LanguageModel

NAME, NUMBER, SERIAL = "score_scaling", 6, False


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and trainings."""

    seeds: tuple[int, ...] = (1, 2, 3)
    widths: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
    """d_k of the random queries and keys."""
    keys: int = 64
    """Number of random keys, and of queries."""
    d_model: int = 128
    """Width of the trained models."""
    heads: tuple[int, ...] = (16, 4, 1)
    """Numbers of heads of the trained models; d_k is `d_model` / heads."""
    num_layers: int = 2
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 2e-3


QUICK = Settings(seeds=(1,), widths=(4, 64), keys=16, d_model=16, heads=(1,), num_layers=1, steps=2)


class UnscaledAttention(MultiHeadSelfAttention):
    """Self-attention with undivided scores, `q k^T`."""

    def compute_scores(self, query: Any, key: Any, positions: Any) -> Any:
        return super().compute_scores(query * self.head_dim**0.5, key, positions)


class UnscaledBlock(DecoderBlock):
    """A block whose self-attention does not divide its scores."""

    def make_self_attention(self) -> keras.layers.Layer:
        return UnscaledAttention(self.num_heads, causal=self.causal, name="self_attention")


ATTENTIONS = {"with": MultiHeadSelfAttention, "without": UnscaledAttention}
BLOCKS = {"with": DecoderBlock, "without": UnscaledBlock}


def measure(settings: Settings) -> dict[str, Any]:
    """Measures random queries and keys, and small trained language models."""
    return {
        "settings": dataclasses.asdict(settings),
        "drawn": {
            variant: [
                [draw_scores(attention, width, settings.keys, seed) for width in settings.widths]
                for seed in settings.seeds
            ]
            for variant, attention in ATTENTIONS.items()
        },
        "trained": {
            variant: [train(settings, block, heads) for heads in settings.heads]
            for variant, block in BLOCKS.items()
        },
    }


def draw_scores(attention_class: type, width: int, keys: int, seed: int) -> dict[str, float]:
    """Measures the softmax of queries and keys drawn from the standard normal distribution.

    Returns:
        The variance of the scores; the entropy of the weights as a share of its maximum, ln(keys);
        the Frobenius norm of the softmax's Jacobian, mean and median over queries.
    """
    attention = attention_class(1)
    attention.build((None, None, width))
    draw = np.random.default_rng(seed)
    query, key = draw.normal(size=(2, 1, 1, keys, width)).astype("float32")
    scores = np.asarray(attention.compute_scores(query, key, None), "float64")
    weights = np.asarray(tf.nn.softmax(scores))
    logs = np.log(np.maximum(weights, 1e-300))
    jacobians = weights[..., None] * (np.eye(keys) - weights[..., None, :])  # diag(p) - p p^T
    sizes = np.linalg.norm(jacobians, axis=(-2, -1))  # [1, 1, keys]
    return {
        "variance": float(scores.var()),
        "entropy": float(-(weights * logs).sum(axis=-1).mean() / np.log(keys)),
        "jacobian_mean": float(sizes.mean()),
        "jacobian_median": float(np.median(sizes)),
    }


def train(settings: Settings, block: type, heads: int) -> list[float]:
    """Trains a model per seed; returns the validation losses."""
    task = tasks.sentences(32)

    def make_model() -> keras.Model:
        return LanguageModel(
            task.tokenizer.vocabulary_size,
            num_layers=settings.num_layers,
            d_model=settings.d_model,
            num_heads=heads,
            block=block,
            norm_first=True,
        )

    trainer = loop.Trainer(make_model, task.train, batch_size=settings.batch_size)
    losses = []
    for seed in settings.seeds:
        trainer.fit(steps=settings.steps, learning_rate=settings.learning_rate, seed=seed)
        losses.append(trainer.evaluate(task.validation).loss)
    return losses


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the variance, the entropy, the Jacobian and the validation loss against d_k."""
    settings, widths = measurements["settings"], measurements["settings"]["widths"]
    figure, axes = figures.panels(2, rows=2, height=3.2)
    names = {"with": "divided by √d_k", "without": "not divided"}
    for index, (variant, name) in enumerate(names.items()):
        for axis, key in zip(axes, ("variance", "entropy", "jacobian_median"), strict=False):
            figures.band(axis, widths, drawn(measurements, variant, key), name, index)
        means = drawn(measurements, variant, "jacobian_mean").mean(axis=0)
        axes[2].plot(widths, means, color=figures.COLORS[index], linestyle="--", linewidth=1.2)
        losses = np.transpose(measurements["trained"][variant])
        figures.band(axes[3], head_widths(settings), losses, name, index)
    figures.label(axes[0], "variance of the scores", "d_k (log)", "variance (log)")
    figures.label(axes[1], "entropy of the weights", "d_k (log)", "share of the highest possible")
    figures.label(
        axes[2],
        "gradient through the softmax: median —, mean - -",
        "d_k (log)",
        "size of the Jacobian (log)",
    )
    figures.label(axes[3], "small trained models", "d_k (log)", "validation loss, nats per token")
    for axis in axes:
        axis.set_xscale("log", base=2)
    axes[0].set_yscale("log")
    axes[1].set_ylim(0, 1)
    axes[2].set_yscale("log")
    figures.legend(axes[0])
    figures.save(figure, path)


def drawn(measurements: dict[str, Any], variant: str, key: str) -> np.ndarray:
    """Returns one measure of the random queries and keys, `[seeds, widths]`."""
    return np.array([[point[key] for point in run] for run in measurements["drawn"][variant]])


def head_widths(settings: dict[str, Any]) -> list[int]:
    """Returns d_k of the trained models."""
    return [settings["d_model"] // heads for heads in settings["heads"]]


def conclude(measurements: dict[str, Any]) -> Finding:
    """Judges the statistics of random scores, and the losses of trained models.

    The statistics confirm the claim if the variance of undivided scores grows like d_k (exponent
    within 0.1 of 1), that of divided scores stays within a factor of 2, and at the largest d_k
    undivided scores have less than half of the entropy and of the median Jacobian of divided ones.
    Training confirms it at each d_k where every seed without the factor has a higher loss than
    every seed with it. The claim holds if the statistics and every d_k confirm it, and under a
    condition if the statistics and some d_k do.
    """
    settings, widths = measurements["settings"], measurements["settings"]["widths"]
    variance = {v: drawn(measurements, v, "variance").mean(axis=0) for v in BLOCKS}
    entropy = {v: drawn(measurements, v, "entropy").mean(axis=0)[-1] for v in BLOCKS}
    median = {v: drawn(measurements, v, "jacobian_median").mean(axis=0) for v in BLOCKS}
    mean = {v: drawn(measurements, v, "jacobian_mean").mean(axis=0) for v in BLOCKS}
    slope = np.polyfit(np.log(widths), np.log(variance["without"]), 1)[0]
    steady = variance["with"].max() < 2 * variance["with"].min()
    saturates = (
        entropy["without"] < entropy["with"] / 2 and median["without"][-1] < median["with"][-1] / 2
    )
    trained = {v: np.transpose(runs) for v, runs in measurements["trained"].items()}
    costs = trained["without"].mean(axis=0) - trained["with"].mean(axis=0)
    worse = trained["without"].min(axis=0) > trained["with"].max(axis=0)
    where = [d for d, is_worse in zip(head_widths(settings), worse, strict=True) if is_worse]
    statistics = abs(slope - 1) < 0.1 and steady and saturates
    if not statistics or not where:
        verdict, condition = "does not hold", ""
    elif worse.all():
        verdict, condition = "holds", ""
    else:
        verdict = "holds only when"
        condition = f"d_k is large enough: here from {min(where)}"
    losses = ", ".join(
        f"{cost:+.3f} at d_k {d}" for cost, d in zip(costs, head_widths(settings), strict=True)
    )
    seeds, heads = len(settings["seeds"]), settings["heads"]
    peak = int(mean["without"].argmax())
    return Finding(
        title="Dividing the scores by √d_k",
        claim=(
            "Without the factor 1/√d_k the scores grow with d_k, the softmax saturates, and little "
            "gradient passes through it."
        ),
        measured=(
            f"Queries and keys of {settings['keys']} positions drawn from the standard normal "
            f"distribution, d_k from {widths[0]} to {widths[-1]}: the variance of their scores, "
            "the entropy of the attention weights (as a share of the highest possible, that of "
            "equal weights), and the size of the softmax's Jacobian, by which backpropagation "
            f"multiplies the gradient. Then language models of {settings['num_layers']} "
            f"layers, width {settings['d_model']}, with {', '.join(map(str, heads))} heads (so d_k "
            f"{', '.join(map(str, head_widths(settings)))}), trained for {settings['steps']} steps "
            f"with and without the factor. {seeds} seeds each. The variant is an "
            "attention that overrides `compute_scores`."
        ),
        outcome=(
            f"Undivided, the variance grows like d_k to the power of {slope:.2f}, to "
            f"{variance['without'][-1]:.0f} at d_k {widths[-1]}; divided it stays between "
            f"{variance['with'].min():.2f} and {variance['with'].max():.2f}. At d_k {widths[-1]} "
            f"the entropy is {entropy['without']:.2f} of the highest possible without and "
            f"{entropy['with']:.2f} with the factor. The median query's Jacobian is "
            f"{median['without'][-1]:.2g} without and {median['with'][-1]:.2g} with it; the mean "
            f"{mean['without'][-1]:.2g} and {mean['with'][-1]:.2g}. In training, leaving the "
            f"factor out changes the validation loss by {losses}."
        ),
        verdict=verdict,
        condition=condition,
        explanation=(
            "A score is a sum of d_k products. If the components are independent with variance 1, "
            "each product has variance 1 and the sum has variance d_k. A softmax over numbers that "
            "differ by tens gives nearly all weight to the largest; its derivative is then nearly "
            "0, and the query learns nothing. The usual answer omits two things. First, not every "
            "query saturates: where the two largest scores are close, much gradient passes, so the "
            "mean falls far less than the median; and at small d_k (undivided it is highest at "
            f"{widths[peak]}) more gradient passes than with the factor, because nearly equal "
            "weights have a small derivative too. Second, the argument is about the start of "
            "training: the components have variance 1 only because of the norm and the "
            "initialization, and a model can learn smaller queries. The factor makes the start the "
            "same for every d_k, so that one learning rate fits."
        ),
        alt=(
            "Four panels against d_k. Variance of the scores, entropy of the attention weights, "
            "and median and mean Jacobian of the softmax, for scores that are divided by the root "
            "of d_k and scores that are not; and the validation loss of small models trained "
            "either way."
        ),
        reference=(
            "Vaswani et al. 2017, Attention Is All You Need, section 3.2.1 and its footnote 4."
        ),
    )
