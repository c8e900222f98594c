"""Claim 9: the cost of self-attention, counted and timed, against the rest of its block."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from training.claims import figures
from training.claims.block_costs import PARTS, block_parts, formula, multiply_adds
from training.claims.finding import Finding
from training.claims.timing import medians

NAME = "complexity"
NUMBER = 9
SERIAL = True


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of the blocks, and number of timings."""

    seeds: tuple[int, ...] = (1, 2, 3)
    lengths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    """n, positions of the input."""
    widths: tuple[int, ...] = (32, 64, 128)
    """d, the model's width; the feed-forward network's inner layer has 4 d."""
    num_heads: int = 4
    rounds: int = 5
    """Timings of each block per seed."""


QUICK = Settings(seeds=(1,), lengths=(16, 32, 64), widths=(4, 8), num_heads=2, rounds=1)


def measure(settings: Settings) -> dict[str, Any]:
    """Counts the multiply-adds of each block and times it with each seed."""
    blocks = []
    for width in settings.widths:
        calls = block_parts(width, settings.num_heads)
        for length in settings.lengths:
            spec = tf.TensorSpec((1, length, width))
            timed = [_time(calls, spec, seed, settings.rounds) for seed in settings.seeds]
            blocks.append(
                {
                    "width": width,
                    "length": length,
                    "counted": {name: multiply_adds(call, spec) for name, call in calls.items()},
                    "seconds": {name: [times[name] for times in timed] for name in calls},
                }
            )
    return {**dataclasses.asdict(settings), "blocks": blocks}


def _time(calls: dict[str, Any], spec: tf.TensorSpec, seed: int, rounds: int) -> dict[str, float]:
    """Returns the seconds of each part on inputs drawn from a seed."""
    inputs = tf.random.stateless_normal(spec.shape, (seed, 0))
    return medians(
        {name: lambda call=call: call(inputs).numpy() for name, call in calls.items()},
        rounds=rounds,
    )


def crossing(lengths: list[int], attention: list[float], rest: list[float]) -> float | None:
    """Finds the length at which `attention` overtakes `rest`, by log-linear interpolation.

    Returns:
        The length; None if it is outside the measured range.
    """
    ahead = np.log(np.asarray(attention) / np.asarray(rest))
    behind = np.flatnonzero(ahead < 0)
    if len(behind) in (0, len(ahead)):
        return None
    last = behind[-1]
    if last == len(ahead) - 1:
        return None
    places = np.log(lengths[last : last + 2])
    return float(np.exp(np.interp(0.0, ahead[last : last + 2], places)))


def growth(values: list[float], outcomes: list[float]) -> float:
    """Fits the exponent e of `outcome = constant * value**e`."""
    return float(np.polyfit(np.log(values), np.log(outcomes), 1)[0])


def summarize(measurements: dict[str, Any]) -> dict[str, Any]:
    """Computes counts, times, crossings and exponents for each width."""
    lengths, widths = measurements["lengths"], measurements["widths"]
    found: dict[str, Any] = {}
    for width in widths:
        blocks = [block for block in measurements["blocks"] if block["width"] == width]
        counted = {part: [block["counted"][part] for block in blocks] for part in PARTS}
        runs = {part: np.array([b["seconds"][part] for b in blocks]).T for part in PARTS}
        # The minimum over seeds: other load on the machine only adds time.
        seconds = {part: runs[part].min(axis=0).tolist() for part in PARTS}
        found[width] = {
            "counted": counted,
            "runs": runs,
            "seconds": seconds,
            "exact": all(b["counted"] == formula(width, b["length"]) for b in blocks),
            "crossing_counted": crossing(lengths, counted["attention"], counted["rest"]),
            "crossing_timed": crossing(lengths, seconds["attention"], seconds["rest"]),
            "growth": {part: growth(lengths[-3:], seconds[part][-3:]) for part in PARTS},
        }
    return found


def draw(measurements: dict[str, Any], path: str | Path) -> None:
    """Draws the multiply-adds, the times, and the share of scores and weighted sums in both."""
    lengths, widths = measurements["lengths"], measurements["widths"]
    found, middle = summarize(measurements), widths[len(widths) // 2]
    figure, (counts, times, shares) = figures.panels(3)
    names = {"attention": "scores, softmax, sums", "rest": "projections, feed-forward"}
    for index, (part, name) in enumerate(names.items()):
        values = [found[middle]["counted"][part]]
        figures.band(counts, lengths, np.array(values) / 1e6, name, index)
        figures.band(times, lengths, found[middle]["runs"][part] * 1e3, name, index)
    counts.axvline(6 * middle, color=figures.MUTED, linestyle=":", label="n = 6 d")
    times.axvline(6 * middle, color=figures.MUTED, linestyle=":", label="n = 6 d")
    for axis in (counts, times):
        axis.set_xscale("log", base=2)
        axis.set_xticks(lengths, lengths)
        axis.set_yscale("log")
        figures.legend(axis)
    figures.label(counts, f"counted, d = {middle}", "length n, tokens", "million multiply-adds")
    figures.label(times, f"timed, d = {middle}, one thread", "length n, tokens", "milliseconds")

    ratios = np.geomspace(min(lengths) / max(widths), max(lengths) / min(widths), 50)
    shares.plot(ratios, ratios / (ratios + 6), color=figures.INK, label="counted: n / (n + 6 d)")
    for index, width in enumerate(widths):
        attention, rest = (found[width]["runs"][part] for part in ("attention", "rest"))
        share = attention / (attention + rest)
        places = [length / width for length in lengths]
        figures.band(shares, places, share, f"timed, d = {width}", index, linestyle="--")
    shares.set_xscale("log", base=2)
    shares.xaxis.set_major_formatter(lambda ratio, place: f"{ratio:g}")
    shares.set_ylim(0, 1)
    figures.label(shares, "share of comparing", "n / d", "share of the block")
    figures.legend(shares)
    figures.save(figure, path)


def conclude(measurements: dict[str, Any]) -> Finding:
    """Compares the counts with the formula, and the times with a power of the length.

    Comparing positions means scores and weighted sums. The claim does not hold if a count differs
    from the formula, or if the time of comparing grows with n to the power 1.5 or less over the
    three longest lengths (mean over widths). It holds if comparing is the larger part of every
    counted block; otherwise it holds only for long texts.
    """
    lengths, widths = measurements["lengths"], measurements["widths"]
    found = summarize(measurements)
    exact = all(found[width]["exact"] for width in widths)
    powers = [found[width]["growth"]["attention"] for width in widths]
    rest_powers = [found[width]["growth"]["rest"] for width in widths]
    wider = growth(widths, [found[width]["seconds"]["attention"][-1] for width in widths])
    quadratic = exact and np.mean(powers) > 1.5
    always = all(
        attention > rest
        for width in widths
        for attention, rest in zip(
            found[width]["counted"]["attention"], found[width]["counted"]["rest"], strict=True
        )
    )
    verdict = "does not hold" if not quadratic else "holds" if always else "holds only when"
    crossings = "; ".join(
        f"with d = {width} counted {_length(found[width]['crossing_counted'])}, "
        f"timed {_length(found[width]['crossing_timed'])}"
        for width in widths
    )
    agreement = "equals the formula in" if exact else "differs from the formula in some of the"
    return Finding(
        title="Self-attention costs n squared times d",
        claim="The cost of self-attention is O(n² d): it grows with the square of the length n.",
        measured=(
            f"Encoder blocks with {measurements['num_heads']} heads and an inner layer of 4 d, "
            f"for n from {lengths[0]} to {lengths[-1]} and d of {_list(widths)}. Multiply-adds of "
            "all matrix products, counted by TensorFlow's profiler in the graph, against 2 n² d "
            "for comparing positions (scores and weighted sums) and 12 n d² for the rest (four "
            "projections, and the feed-forward network). Both parts timed: the first by itself, "
            "the second as a subclass of the block in which every position keeps its own value."
        ),
        outcome=(
            f"The count {agreement} {len(measurements['blocks'])} blocks. Among the three longest "
            f"texts the time of comparing grows with n to the power {_range(powers)}, that of the "
            f"rest to the power {_range(rest_powers)}; at n = {lengths[-1]} the time of comparing "
            f"grows with d to the power {wider:.1f}. Comparing overtakes the rest at these "
            f"lengths (by formula 6 d): {crossings}."
        ),
        verdict=verdict,
        condition=(
            "it is limited to comparing positions, or to texts several times as long as the model "
            "is wide; in shorter ones the n d² of projections and feed-forward is the larger part"
            if verdict == "holds only when"
            else ""
        ),
        explanation=(
            "Every position is compared with every other: n² products of length d for the scores, "
            "and as many for the weighted sums. A layer also multiplies each position by matrices "
            "of d by d: 4 in the attention and, with an inner layer of 4 d, 8 in the feed-forward "
            "network. So a block costs 2 n² d + 12 n d² multiply-adds, and the two parts are equal "
            "at n = 6 d. A model of width 768 reaches this at 4,608 tokens; at 512 tokens "
            f"comparing is {512 / (512 + 4608):.0%} of its arithmetic. Time differs from the "
            "count: a call has a fixed cost, the softmax adds H n² exponentials that do not depend "
            "on d, and the n by n table must be written and read, which is slow if it exceeds the "
            "processor's cache. So the time may grow faster than n² and slower than d, and the "
            "crossing may be elsewhere. The number of heads changes neither product. Memory grows "
            "with n² as well: each layer keeps H n² weights per text, unless it computes them in "
            "pieces."
        ),
        alt=(
            "Three panels. Multiply-adds and milliseconds of both parts of a block against the "
            "length, on logarithmic axes, with a line at n = 6 d; and the comparing part's share "
            "against n / d, counted and timed for each width."
        ),
        reference=(
            "Vaswani et al. 2017, table 1; Dao et al. 2022 (computing it without the n by n table)."
        ),
    )


def _length(value: float | None) -> str:
    return "not in this range" if value is None else f"{value:.0f}"


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def _list(values: list[int]) -> str:
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
