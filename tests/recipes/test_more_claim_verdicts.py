"""The rules of claims 4, 5, 8, 9, 10 and 11, on measurements that are made up here."""

import dataclasses

import numpy as np
import pytest

pytest.importorskip("babel")
pytest.importorskip("matplotlib")

from training.claims import (
    attention_maps,
    block_costs,
    complexity,
    date_pieces,
    directions,
    generation,
    heads,
    parallelism,
    reduced,
    three_attentions,
    two_masks,
    unmasked,
)


def heads_measurements(exact, after):
    """Two seeds with 1, 2 and 4 heads; before training the overlap is 0.7, seeds differ by 0.02."""
    settings = heads.Settings(seeds=(1, 2), head_counts=(1, 2, 4), pruned_count=2)
    runs = []
    for seed, difference in ((1, 0.01), (2, -0.01)):
        for count, share in zip(settings.head_counts, exact, strict=True):
            overlap = [dict.fromkeys(attention_maps.KINDS, value) for value in (0.7, after)]
            quality = {"exact": share + difference, "loss": 0.1, "accuracy": 0.9}
            pruned = {kind: [{"exact": 0.5}] * 2 for kind in attention_maps.KINDS}
            run = {"seed": seed, "heads": count, "before": overlap[0], "after": overlap[1]}
            runs.append({**run, "quality": quality, "pruned": pruned})
    return {**dataclasses.asdict(settings), "runs": runs}


@pytest.mark.parametrize(
    ("exact", "after", "verdict"),
    [
        ((0.7, 0.8, 0.8), 0.4, "holds"),
        ((0.7, 0.8, 0.79), 0.4, "holds"),
        ((0.7, 0.8, 0.75), 0.4, "holds only when"),
        ((0.8, 0.8, 0.75), 0.4, "holds only when"),
        ((0.7, 0.8, 0.8), 0.7, "does not hold"),
    ],
)
def test_heads_hold_if_they_come_to_differ_and_several_do_better(exact, after, verdict):
    found = heads.conclude(heads_measurements(exact, after))
    assert found.verdict == verdict
    assert ("is not shown" in found.condition) == (exact[0] == 0.8)
    assert "50.0%" not in found.outcome  # What is lost without a head, not what is left.


def test_a_gain_within_two_standard_errors_is_not_shown():
    measurements = heads_measurements((0.78, 0.8, 0.8), 0.4)
    assert heads.conclude(measurements).verdict == "holds"  # The same gain in both seeds.
    measurements["runs"][0]["quality"]["exact"] += 0.03  # One head, the first seed.
    assert "is not shown" in heads.conclude(measurements).condition


def directions_measurements(filled, sums, perplexity):
    """One seed; `perplexity` is what the autoregressive judge gives."""
    run = {"seed": 1, "nats": [3.0, 2.0], "filled": filled, "sums": sums}
    runs = [{**run, "perplexity": [perplexity, [10, 10, 10, 10]]}]
    counts = {"texts": 100, "pieces": 40, "runs": runs}
    return {**dataclasses.asdict(directions.Settings(seeds=(1,))), **counts}


NORMAL = [[1.0, 1.0001], [0.5, 2.0]]


@pytest.mark.parametrize(
    ("filled", "sums", "perplexity", "verdict"),
    [
        ((0.3, 0.4, 0.5, 0.3), NORMAL, (10, 20, 90, 99), "holds"),
        ((0.3, 0.2, 0.5, 0.3), NORMAL, (10, 20, 90, 99), "holds only when"),
        ((0.3, 0.4, 0.5, 0.6), NORMAL, (10, 20, 90, 99), "holds only when"),
        ((0.3, 0.2, 0.3, 0.3), NORMAL, (10, 20, 90, 99), "does not hold"),
        ((0.3, 0.4, 0.5, 0.3), NORMAL, (10, 20, 20, 99), "does not hold"),
        ((0.3, 0.4, 0.5, 0.3), [[1.0, 1.0], [1.0, 1.01]], (10, 20, 90, 99), "does not hold"),
        ((0.3, 0.4, 0.5, 0.3), [[1.0, 1.01], [0.5, 2.0]], (10, 20, 90, 99), "does not hold"),
    ],
)
def test_directions_differ_in_what_they_see_score_and_write(filled, sums, perplexity, verdict):
    found = directions.conclude(directions_measurements(filled, sums, perplexity))
    assert found.verdict == verdict


def test_the_conditions_of_directions_are_named():
    measurements = directions_measurements((0.3, 0.2, 0.5, 0.6), NORMAL, (10, 20, 90, 99))
    condition = directions.conclude(measurements).condition
    assert "3 times as many updates" in condition
    assert "every candidate" in condition


def parallelism_measurements(slower, difference, agree):
    """One pass takes a second; a step with a cache is `slower` in batches of 1 and of 16."""
    settings = parallelism.Settings(seeds=(1,), lengths=(8,))
    timed = [
        {
            "seed": 1,
            "length": 8,
            "batch_size": rows,
            "difference": difference,
            "seconds": dict(zip(generation.METHODS, (1, times, 2 * times), strict=True)),
        }
        for rows, times in zip(settings.batch_sizes, slower, strict=True)
    ]
    judged = {"tokens": [0.9, 0.8], "exact": [0.5, 0.5], "agree": agree}
    judged = {"seed": 1, **judged, "seconds": {"forced": 1, "generated": 2}}
    return {**dataclasses.asdict(settings), "timed": timed, "judged": [judged]}


@pytest.mark.parametrize(
    ("slower", "difference", "agree", "verdict"),
    [
        ((9, 3), 1e-6, 1.0, "holds"),
        ((9, 1.5), 1e-6, 1.0, "holds only when"),
        ((1.1, 1.1), 1e-6, 1.0, "does not hold"),
        ((9, 3), 1e-3, 1.0, "does not hold"),
        ((9, 3), 1e-6, 0.99, "does not hold"),
    ],
)
def test_parallelism_holds_if_the_same_comes_out_and_steps_are_slower(
    slower, difference, agree, verdict
):
    found = parallelism.conclude(parallelism_measurements(slower, difference, agree))
    assert found.verdict == verdict


def complexity_measurements(lengths, power, extra):
    """Two widths: comparing takes n**power seconds, the rest n; the count is off by `extra`."""
    settings = complexity.Settings(seeds=(1,), lengths=lengths, widths=(8, 16))
    blocks = []
    for width in settings.widths:
        for length in lengths:
            counted = block_costs.formula(width, length)
            counted["attention"] += extra
            seconds = {
                "whole": [1.0],
                "rest": [float(length)],
                "attention": [float(length) ** power],
            }
            block = {"width": width, "length": length, "counted": counted}
            blocks.append({**block, "seconds": seconds})
    return {**dataclasses.asdict(settings), "blocks": blocks}


@pytest.mark.parametrize(
    ("lengths", "power", "extra", "verdict"),
    [
        ((16, 64, 256), 2.0, 0, "holds only when"),
        ((256, 512, 1024), 2.0, 0, "holds"),
        ((16, 64, 256), 1.4, 0, "does not hold"),
        ((16, 64, 256), 2.0, 1, "does not hold"),
    ],
)
def test_complexity_holds_if_counts_and_times_grow_as_on_paper(lengths, power, extra, verdict):
    found = complexity.conclude(complexity_measurements(lengths, power, extra))
    assert found.verdict == verdict
    if lengths[0] == 16:
        assert "with d = 8 counted 48" in found.outcome or extra


def attentions_measurements(reading, writing):
    """One seed: the loss without each attention; with all of them it is 1."""
    losses = dict(zip(three_attentions.TASKS, (reading, writing), strict=True))
    runs = [
        {"seed": 1, "task": task, "removed": removed, "loss": loss, "right": 0.5}
        for task, values in losses.items()
        for removed, loss in zip(reduced.REMOVED, (1.0, *values), strict=True)
    ]
    even = [0.2] * len(date_pieces.PIECE_KINDS)
    maps = {kind: [0.1] * 17 for kind in attention_maps.KINDS[:2]}
    maps |= {attention_maps.KINDS[2]: [even] * 12, "evenly": even}
    settings = dataclasses.asdict(three_attentions.Settings(seeds=(1,)))
    return {**settings, "pairs": 100, "runs": runs, "maps": [maps]}


@pytest.mark.parametrize(
    ("reading", "writing", "verdict"),
    [
        ((2, 2, 2), (2, 2, 2), "holds"),
        ((2, 1.05, 2), (2, 2, 2), "holds only when"),
        ((2, 1.05, 2), (1.0, 2, 2), "holds only when"),
        ((2, 1.05, 2), (2, 1.05, 2), "does not hold"),
    ],
)
def test_the_three_attentions_are_needed_where_the_loss_is_higher_without(
    reading, writing, verdict
):
    found = three_attentions.conclude(attentions_measurements(reading, writing))
    assert found.verdict == verdict
    spare = "reading without decoder self-attention"
    assert (spare in found.condition) == (verdict == "holds only when")


def masks_measurements(leaking_loss, leaking_written, padded):
    """One seed: with both masks the loss ends at 0.1, and 0.8 of the dates are right."""
    settings = two_masks.Settings(seeds=(1,), more_padding=(8,))
    values = {
        unmasked.BOTH: (0.1, 0.8, [0.8, 0.8, 0.8]),
        unmasked.UNPADDED: (0.1, 0.8, padded),
        unmasked.LEAKING: (leaking_loss, leaking_written, None),
    }
    runs = [
        {
            "variant": name,
            "training": [2.0, loss],
            "written": written,
            "forced": {"loss": loss, "exact": 0.9},
            "padded": shares,
        }
        for name, (loss, written, shares) in values.items()
    ]
    runs.append({"variant": two_masks.MASK_REMOVED, "padded": [0.8, 0.1, 0.0]})
    return {**dataclasses.asdict(settings), "width": 32, "runs": runs}


@pytest.mark.parametrize(
    ("leaking_loss", "leaking_written", "padded", "verdict"),
    [
        (0.01, 0.0, [0.2, 0.7, 0.6], "holds"),
        (0.01, 0.0, [0.2, 0.8, 0.8], "holds only when"),
        (0.01, 0.0, [0.8, 0.8, 0.8], "does not hold"),
        (0.2, 0.0, [0.2, 0.7, 0.6], "does not hold"),
        (0.01, 0.8, [0.2, 0.7, 0.6], "does not hold"),
    ],
)
def test_the_masks_are_needed_if_writing_fails_and_padding_shows(
    leaking_loss, leaking_written, padded, verdict
):
    found = two_masks.conclude(masks_measurements(leaking_loss, leaking_written, padded))
    assert found.verdict == verdict
    assert ("no padding: 20.0%" in found.outcome) == (np.min(padded) == 0.2)
