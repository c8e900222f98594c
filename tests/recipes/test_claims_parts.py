import time

import keras
import numpy as np
import pytest

pytest.importorskip("babel")
pytest.importorskip("matplotlib")


from ktransformer.models import Transformer
from training.claims import (
    attention_maps,
    block_costs,
    complexity,
    date_pieces,
    generation,
    heads,
    language_scores,
    prunable,
    reduced,
    scores,
    tasks,
    timing,
    unmasked,
)

IDS = np.array([[5, 6, 7, 3, 0], [8, 9, 3, 0, 0]], "int32")
INPUTS = {"source": IDS, "target": tasks.shifted(IDS)}


def make(kind, *arguments, **options):
    """Makes a small model with random weights."""
    keras.utils.set_random_seed(1)
    sizes = {"num_layers": 1, "d_model": 8, "num_heads": 2, "hidden_dim": 8, "dropout": 0.0}
    model = kind(12, *arguments, **{**sizes, "max_length": 16, **options})
    model.build()
    return model


def test_attention_maps_are_those_of_the_model():
    model = make(Transformer)
    maps = attention_maps.attention_maps(model, INPUTS)
    assert [maps[kind][0].shape for kind in attention_maps.KINDS] == [(2, 2, 5, 5)] * 3
    expected = model.cross_attention_weights(INPUTS)[0]
    np.testing.assert_array_equal(maps["cross-attention"][0], expected)
    for kind in attention_maps.KINDS:
        real = attention_maps.query_mask(kind, INPUTS)
        sums = maps[kind][0].sum(axis=-1).transpose(0, 2, 1)[real]
        np.testing.assert_allclose(sums, 1, atol=1e-6)
    assert np.triu(maps["decoder self-attention"][0], 1).max() == 0
    assert maps["encoder self-attention"][0][1, :, :, 3:].max() == 0


def test_attention_by_distance_is_averaged_over_real_pairs():
    weights = np.array([[[0.9, 0.1, 0], [0.3, 0.7, 0], [1, 0, 0]]])
    real = np.array([[True, True, False]])
    found = attention_maps.by_distance(weights, real, 1)
    np.testing.assert_allclose(found, [0.3, 0.8, 0.1])


def test_a_head_that_is_switched_off_adds_nothing():
    attention = prunable.PrunableSelfAttention(2)
    attention.build((None, None, 4))
    inputs = keras.random.normal((1, 3, 4), seed=1)
    whole, bias = attention(inputs), attention.output_projection.bias
    parts = []
    for kept in ([1, 0], [0, 1]):
        attention.kept.assign(kept)
        parts.append(attention(inputs))
    np.testing.assert_allclose(parts[0] + parts[1] - bias, whole, atol=1e-6)
    attention.kept.assign([0, 0])
    np.testing.assert_allclose(attention(inputs), np.zeros((1, 3, 4)) + bias, atol=1e-6)


def test_equal_heads_overlap_by_one_and_a_single_head_with_none():
    model = make(prunable.PrunableTransformer)
    for layers in model.attentions().values():
        for layer in layers:
            for dense in ("input_projection", "query_projection", "memory_projection"):
                if hasattr(layer, dense):
                    kernel = getattr(layer, dense).kernel
                    kernel.assign(np.zeros(kernel.shape))  # All keys look the same to all heads.
    assert heads.overlaps(model, INPUTS) == pytest.approx(dict.fromkeys(attention_maps.KINDS, 1))
    alone = make(prunable.PrunableTransformer, num_heads=1)
    assert set(heads.overlaps(alone, INPUTS).values()) == {None}


def test_a_removed_cross_attention_leaves_the_source_unseen():
    other = {**INPUTS, "source": IDS[::-1].copy()}
    for removed, seen in (("nothing", True), ("cross-attention", False)):
        model = make(reduced.ReducedTransformer, removed)
        changed = not np.allclose(model(INPUTS), model(other), atol=1e-6)
        assert changed == seen


def test_a_removed_self_attention_leaves_only_the_newest_token():
    target = INPUTS["target"].copy()
    target[:, 0] = 9
    for removed, seen in (("nothing", True), ("decoder self-attention", False)):
        model = make(reduced.ReducedTransformer, removed)
        one, other = model(INPUTS), model({**INPUTS, "target": target})
        assert (not np.allclose(one[:, 2], other[:, 2], atol=1e-6)) == seen


def test_both_ways_of_writing_agree():
    model = make(Transformer)
    written = generation.greedy(model, IDS, 4).numpy()
    again = generation.greedy_without_cache(scores.predictor(model), IDS, 4)
    ended = np.cumsum(again == 3, axis=1) - (again == 3) > 0
    np.testing.assert_array_equal(written, np.where(ended, 0, again))


def test_padding_matters_without_its_mask_alone():
    padded = {**INPUTS, "source": np.pad(IDS, ((0, 0), (0, 4)))}
    for name, differs in ((unmasked.BOTH, False), (unmasked.UNPADDED, True)):
        model = make(unmasked.VARIANTS[name])
        assert (not np.allclose(model(INPUTS), model(padded), atol=1e-5)) == differs


def test_the_future_leaks_without_its_mask_alone():
    target = INPUTS["target"].copy()
    target[:, 2] = 10
    for name, leaks in ((unmasked.BOTH, False), (unmasked.LEAKING, True)):
        model = make(unmasked.VARIANTS[name])
        before, after = model(INPUTS)[:, 1], model({**INPUTS, "target": target})[:, 1]
        assert (not np.allclose(before, after, atol=1e-5)) == leaks


def test_a_written_date_has_five_kinds_of_pieces():
    tokenizer = tasks.Tokenizer.train(["3 May 2026.", "1 May 1999."], 40)
    ids = tokenizer.encode_lines(["3 May 2026."])[0]
    kinds = date_pieces.piece_kinds(tokenizer, [*ids, 0])
    pieces = tokenizer.pieces(ids)
    named = {
        date_pieces.PIECE_KINDS[kind]: "".join(
            p for p, k in zip(pieces, kinds, strict=False) if k == kind
        ).replace("▁", "")
        for kind in range(5)
    }
    assert named == {
        "year": "2026",
        "month or day in digits": "3",
        "word": "May",
        "sign": ".",
        "end": "</s>",
    }
    assert kinds[-1] == -1


def test_a_swapped_task_predicts_its_sources():
    labels = np.array([[4, 3, 0], [5, 6, 3]], "int32")
    split = tasks.Split({"source": IDS, "target": tasks.shifted(labels)}, labels)
    swapped = tasks.swapped(tasks.Task(split, split, None)).train
    np.testing.assert_array_equal(swapped.inputs["source"], labels)
    np.testing.assert_array_equal(swapped.inputs["target"], [[2, 5, 6, 7, 0], [2, 8, 9, 0, 0]])
    np.testing.assert_array_equal(swapped.labels, IDS)


def test_attention_to_pieces_is_summed_by_kind():
    kinds = np.array([[0, 0, 2, 4], [1, 2, 4, -1]])
    weights = np.array([[[0.5, 0.3, 0.2, 0.0]], [[0.1, 0.2, 0.7, 0.0]]])
    shares, even = date_pieces.by_piece(weights, kinds)
    np.testing.assert_allclose(shares, [[0.4, 0.05, 0.2, 0, 0.35]])
    np.testing.assert_allclose(even, [0.25, 1 / 6, 7 / 24, 0, 7 / 24])


def test_a_date_has_its_written_forms_and_no_date_has_none():
    forms = tasks.written_forms("2026-03-03")
    assert {"Tuesday, March 3, 2026", "Dienstag, 3. März 2026", "2026年3月3日火曜日"} <= forms
    assert tasks.written_forms("2026-02-30") == frozenset()


def test_the_graph_has_the_multiply_adds_of_the_formula():
    parts = block_costs.block_parts(8, num_heads=2)
    spec = block_costs.tf.TensorSpec((1, 16, 8))
    counted = {name: block_costs.multiply_adds(part, spec) for name, part in parts.items()}
    # Scores and sums 16 * 16 * 8 each; 4 projections and 2 * 4 in the feed-forward, 16 * 8 * 8.
    assert counted == {"whole": 4096 + 12288, "rest": 12288, "attention": 4096}
    assert counted == block_costs.formula(8, 16)


def test_the_crossing_is_where_both_cost_the_same():
    lengths = [16, 32, 64, 128]
    counted = [block_costs.formula(8, n) for n in lengths]
    attention, rest = ([count[part] for count in counted] for part in ("attention", "rest"))
    assert complexity.crossing(lengths, attention, rest) == pytest.approx(48)
    assert complexity.crossing(lengths, rest, attention) is None
    assert complexity.crossing(lengths[:2], attention[:2], rest[:2]) is None
    assert complexity.growth(lengths, attention) == pytest.approx(2)


def test_calls_are_timed_in_turns():
    order = []

    def call(name, seconds):
        order.append(name)
        time.sleep(seconds)

    calls = {"a": lambda: call("a", 0.004), "b": lambda: call("b", 0.001)}
    found = timing.medians(calls, rounds=3, least_seconds=0.0)
    assert order[-6:] == list("ababab")
    assert found["a"] > 0.004
    assert found["b"] > 0.001


def toy_predict(inputs):
    """Gives the id after each input, of 8, twice the probability of the others."""
    logits = np.zeros((*inputs.shape, 8))
    np.put_along_axis(logits, ((inputs + 1) % 8)[..., None], np.log(2), axis=-1)
    return logits


def test_the_chain_rule_scores_each_token_by_the_one_before():
    # After 2 (start), 4 and 5 come: 4 has 1/9, 5 after 4 has 2/9; then padding.
    found = language_scores.log_likelihood(toy_predict, np.array([[4, 5, 0]]))
    np.testing.assert_allclose(np.exp(found), [[1 / 9, 2 / 9, 1]])


def test_the_pseudo_likelihood_hides_each_token_in_turn():
    # The toy model looks at the mask, 5, alone: 6 has 2/9 in its place, all others 1/9.
    found = language_scores.pseudo_log_likelihood(toy_predict, np.array([[6, 1, 0]]), 5)
    np.testing.assert_allclose(np.exp(found), [[2 / 9, 1 / 9, 1]])


def test_the_pairs_of_a_chain_sum_to_one_and_those_of_masks_need_not():
    text = np.array([4, 4, 4, 4])
    assert language_scores.pair_sum_by_chain(toy_predict, text, 1, 8) == pytest.approx(1)

    def copying(inputs):
        """Says that a hidden token is like its neighbour: of 8 ids, 2 times as probable."""
        logits = np.zeros((*inputs.shape, 8))
        for row, ids in enumerate(inputs):
            for place in np.flatnonzero(ids == 7):
                others = [ids[i] for i in (place - 1, place + 1) if ids[i] != 7]
                for other in others:
                    logits[row, place, other] += np.log(2)
        return logits

    # Neighbours 4 outside. P(a | 4, b): 2 / 10 at a in {4, b}, 1/10 else; 4 / 11 if b is 4.
    total = 0.0
    for a in range(8):
        for b in range(8):
            total += conditional(a, b) * conditional(b, a)
    found = language_scores.pair_sum_by_masks(copying, np.array([4, 5, 6, 4]), 1, 8, 7)
    assert found == pytest.approx(total)
    assert abs(total - 1) > 0.01


def conditional(token, neighbour):
    """P(token) between a 4 and a neighbour, for the copying model (7 is the mask, not copied)."""
    weights = np.ones(8)
    for other in (4, neighbour):
        if other != 7:
            weights[other] *= 2
    return weights[token] / weights.sum()


def test_hidden_tokens_are_labelled_and_the_others_stay():
    texts = np.tile(np.arange(4, 24), (50, 1))
    split = language_scores.masked_split(texts, 30, copies=4, seed=1)
    hidden = split.labels != 0
    assert split.inputs.shape == (200, 20)
    assert 0.13 < hidden.mean() < 0.17
    np.testing.assert_array_equal(split.inputs[~hidden], np.tile(texts, (4, 1))[~hidden])
    np.testing.assert_array_equal(split.labels[hidden], np.tile(texts, (4, 1))[hidden])
    assert 0.75 < (split.inputs[hidden] == 30).mean() < 0.85


def test_scoring_every_candidate_uses_the_right_side():
    # From the left, after 7, padding (0) is most probable; 5 makes the 6 behind it probable.
    texts, places = np.array([[1, 7, 1, 6]]), np.array([2])
    assert language_scores.fill_by_left(toy_predict, texts, places).tolist() == [0]
    assert language_scores.fill_by_scoring(toy_predict, texts, places, 8).tolist() == [5]
