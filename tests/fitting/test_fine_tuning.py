"""A training from a run: its defaults, frozen parts, LoRA and its adapter."""

import dataclasses

import keras
import numpy as np
import pytest

import ktransformer
from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting import FromRun, Resume, compile_training_model, train
from ktransformer.fitting.adapting import adapt
from ktransformer.fitting.training_text import MixedText
from ktransformer.models import MaskedLanguageModel
from ktransformer.models.lora import LoraOptions, add_lora
from ktransformer.models.parts import find_layers, freeze, model_parts
from ktransformer.saving.adapter import load_adapter, save_adapter
from ktransformer.saving.run import load_run, save_run
from ktransformer.text import ParallelFiles, ParallelText
from tests.fitting.small_training import (
    EVERY_UPDATE,
    TEXT,
    CutAfter,
    CutError,
    assert_same,
    small,
    state_of,
)
from tests.fitting.small_transformer import make_batch, make_model
from tests.small_run import number_pairs, write_pairs
from tests.subclasses import OneKeyTransformer, RelativeTransformer, SwiGLUTransformer
from tests.subclasses import make_model as make_subclass

OTHER_TEXT = ParallelText(["two one three"] * 9, ["2 1 3"] * 9, empty=0)
LORA = {"lora_rank": 2, "lora_alpha": 8, "learning_rate": 0.05}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch."""
    return train(small(seed=5), TEXT, checkpoints=tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def base(run, tmp_path_factory):
    """Its folder."""
    path = tmp_path_factory.mktemp("base") / "run"
    save_run(run, path)
    return path


@pytest.fixture(scope="module")
def tuned(run, tmp_path_factory):
    """A training of two epochs from the run with LoRA."""
    config = small(epochs=2, average_checkpoints=2, **LORA)
    folder = tmp_path_factory.mktemp("tuned")
    return train(config, OTHER_TEXT, TEXT, checkpoints=folder, start=FromRun(run))


def test_the_default_settings_are_the_runs_with_a_fresh_schedule(run):
    start = FromRun(run)
    config = start.default_config()
    assert config.model == run.config.model
    assert config.decoding == dataclasses.replace(run.config.decoding, max_repeats=None)
    assert config.data.vocabulary_size == 30
    assert config.data.batch_tokens is None
    chosen = start.configure(config).training
    assert (chosen.epochs, chosen.optimizer, chosen.schedule) == (5, "adam", "cosine")
    assert chosen.learning_rate == 0.001
    assert start.configure(config.replace({"lora_rank": 1})).training.learning_rate == 0.004


def test_frozen_parts_do_not_move_and_have_no_optimizer_state(run, tmp_path):
    config = small(freeze="embeddings,encoder", weight_decay=0.1, epochs=2, average_checkpoints=2)
    cut = CutAfter(4)
    with pytest.raises(CutError):
        train(config, OTHER_TEXT, TEXT, checkpoints=tmp_path, start=FromRun(run), callbacks=[cut])
    frozen = find_layers(run.model, ("embeddings", "encoder"), argument="freeze")
    count = sum(len(layer.weights) for layer in frozen)
    # The number of updates, and two moments for each weight that is trained.
    optimizer = cut.model.optimizer
    assert len(optimizer.variables) == 1 + 2 * (len(run.model.weights) - count)
    tuned = train(config, OTHER_TEXT, TEXT, checkpoints=tmp_path, start=Resume(FromRun(run)))
    found = find_layers(tuned.model, ("embeddings", "encoder"), argument="freeze")
    for before, after in zip(frozen, found, strict=True):
        assert_same(before.get_weights(), after.get_weights())
    assert all(weight.trainable for weight in tuned.model.weights)
    before, after = (each.model.decoder.get_weights() for each in (run, tuned))
    assert sum(np.any(a != b) for a, b in zip(before, after, strict=True)) > 10


def test_the_parts_of_a_model_have_names():
    names = {"embeddings", "encoder", "encoder.0", "decoder", "decoder.0"}
    names |= {"self_attention", "cross_attention", "feed_forward"}
    assert model_parts(make_model()).keys() == names
    assert model_parts(make_model(tie_embeddings=False)).keys() == names | {"output"}
    biased = make_model(output_bias=True)
    freeze(biased, ["output"])
    assert len(biased.trainable_weights) == len(biased.weights) - 1


def test_the_output_of_a_masked_language_model_is_its_whole_head():
    model = MaskedLanguageModel(13, num_layers=1, d_model=8, num_heads=2, hidden_dim=16)
    model.build()
    freeze(model, ["output"])
    body = [*model.embedding.weights, *model.encoder.weights]
    assert {weight.path for weight in model.trainable_weights} == {weight.path for weight in body}


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"freeze": "encoder,head"}, "freeze.*cross_attention, decoder.*'head'"),
        ({"freeze": "encoder,decoder,embeddings"}, "freeze.*encoder, decoder, embeddings"),
        ({"lora_rank": 1, "lora_layers": "heads"}, "lora_layers.*encoder.*'heads'"),
        ({"lora_rank": 1, "lora_layers": "embeddings"}, "lora_layers=embeddings"),
        ({"lora_rank": 1, "lora_layers": "encoder", "freeze": "encoder"}, "freeze=encoder"),
    ],
)
def test_unknown_parts_and_those_that_leave_nothing_are_refused(settings, rule, run, tmp_path):
    with pytest.raises(InputError, match=rule):
        train(small(**settings), TEXT, checkpoints=tmp_path, start=FromRun(run))


def test_lists_of_names_are_read_from_words_and_from_yaml(tmp_path):
    for value in ("encoder,embeddings", ["encoder", "embeddings"], ("encoder", "embeddings")):
        assert Config().replace({"freeze": value}).training.freeze == ("encoder", "embeddings")
    assert Config().replace({"freeze": "null"}).training.freeze == ()
    with pytest.raises(InputError, match=r"freeze.*list of names.*3"):
        Config().replace({"freeze": [3]})


def test_lora_without_a_run_to_start_from_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"lora_rank.*--from.*lora_rank=2"):
        train(small(lora_rank=2), TEXT, checkpoints=tmp_path)


def test_lora_changes_nothing_before_training_and_its_merged_kernels_equal_it_after(run):
    model = FromRun(run).make_model(small(), FromRun(run).tokenizers)
    ids = np.array([[4, 5, 6, 3]])
    inputs = {"source": ids, "target": ids}
    before = model(inputs)
    add_lora(model, LoraOptions(2, 8.0))
    np.testing.assert_array_equal(model(inputs), before)
    for weight in model.trainable_weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    projection = model.encoder.blocks[0].feed_forward.hidden_projection
    rows = np.random.default_rng(1).normal(size=(3, 16)).astype("float32")
    kernel = np.array(projection._kernel)
    kernel = kernel + 4.0 * np.array(projection.lora_kernel_a) @ projection.lora_kernel_b
    expected = rows @ kernel + np.array(projection.bias)
    np.testing.assert_allclose(projection(rows), expected, rtol=1e-4, atol=1e-4)


def test_a_training_with_lora_gives_a_plain_run_whose_adapter_makes_it_of_the_base(
    run, base, tuned, tmp_path
):
    assert len(tuned.model.weights) == len(run.model.weights)
    save_adapter(tuned.adapter, tmp_path / "adapter.npz")
    with_adapter = load_run(base, adapter=tmp_path / "adapter.npz")
    assert_same(with_adapter.model.get_weights(), tuned.model.get_weights())
    changed = {
        old.path.split("/")[-2]
        for old, new in zip(run.model.weights, tuned.model.weights, strict=True)
        if np.any(np.array(old) != np.array(new))
    }
    assert changed == {
        *("input_projection", "query_projection", "memory_projection"),
        *("hidden_projection", "output_projection"),
    }
    task = ktransformer.load(base, adapter=tmp_path / "adapter.npz")
    assert_same(task.model.get_weights(), tuned.model.get_weights())


def test_an_adapter_on_another_base_is_refused(tuned, tmp_path):
    save_adapter(tuned.adapter, tmp_path / "adapter.npz")
    save_run(tuned, tmp_path / "run")
    with pytest.raises(InputError, match=f"adapter.npz.*{tuned.adapter.base[:16]}"):
        load_run(tmp_path / "run", adapter=tmp_path / "adapter.npz")


def test_a_file_that_is_no_adapter_is_refused(tuned, tmp_path):
    path = tmp_path / "adapter.npz"
    save_adapter(tuned.adapter, path)
    assert load_adapter(path).options == tuned.adapter.options
    content = path.read_bytes()
    for damaged in (b"", content[:2000], content.replace(b'"rank": 2', b'"rank": 0')):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"adapter\.npz is not a LoRA adapter"):
            load_adapter(path)


@pytest.mark.long
def test_a_training_with_lora_that_was_cut_ends_as_if_it_had_not_been(run, tmp_path):
    config, start = small(**{**EVERY_UPDATE, **LORA, "epochs": 2}), FromRun(run)
    whole = train(config, TEXT, checkpoints=tmp_path / "whole", start=start)
    with pytest.raises(CutError):
        train(config, TEXT, checkpoints=tmp_path / "cut", start=start, callbacks=[CutAfter(4)])
    other = config.replace({"lora_rank": 3})
    with pytest.raises(InputError, match=r"lora_rank=2.*lora_rank=3"):
        train(other, TEXT, checkpoints=tmp_path / "cut", start=Resume(start))
    rest = train(config, TEXT, checkpoints=tmp_path / "cut", start=Resume(start))
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
    assert_same(rest.model.get_weights(), whole.model.get_weights())
    assert_same(rest.adapter.matrices, whole.adapter.matrices)


@pytest.mark.long
@pytest.mark.parametrize("settings", [{"optimizer": "muon"}, {"clip_norm": 1.0}])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_lora_learns_with_every_optimizer_and_precision(settings, dtype):
    model = make_model(dtype=dtype, dropout=0.0)
    config = Config().replace({**LORA, "warmup_steps": 1, "optimizer": "adam", **settings})
    before = model.get_weights()
    adapt(model, config.training)
    training_model = compile_training_model(model, config.training, steps_per_epoch=8)
    losses = training_model.fit(*make_batch(), batch_size=4, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.1
    kept = [weight for weight in model.weights if not weight.name.startswith("lora_")]
    assert_same([np.array(weight) for weight in kept], before)


def test_a_frozen_table_gets_no_gradient_and_the_rest_the_same_updates():
    trained = []
    for fused in (True, False):
        model = make_model(dropout=0.0, output_bias=True)
        config = Config().replace({"freeze": "embeddings", "optimizer": "adam"}).training
        adapt(model, config)
        if fused:
            compiled = compile_training_model(model, config)
        else:
            compiled = model
            ktransformer.fitting.compile_model(model, config)
        compiled.fit(*make_batch(), batch_size=4, epochs=3, verbose=0)
        trained.append(model(make_batch()[0]))
    np.testing.assert_allclose(*trained, atol=1e-4)


def test_lora_works_in_the_blocks_of_subclasses():
    for subclass in (RelativeTransformer, SwiGLUTransformer, OneKeyTransformer):
        model = make_subclass(subclass)
        count = len(model.weights)
        add_lora(model, LoraOptions(2, 8.0))
        dense = [each for each in model._flatten_layers() if isinstance(each, keras.layers.Dense)]
        assert len(model.trainable_weights) == len(model.weights) - count == 2 * len(dense)


@pytest.mark.long
def test_a_training_with_mixed_in_text_that_was_cut_ends_as_if_it_had_not_been(run, tmp_path):
    config, start = small(**{**EVERY_UPDATE, "epochs": 2, "mix_share": 0.4}), FromRun(run)
    whole = train(config, OTHER_TEXT, checkpoints=tmp_path / "whole", start=start, mix=TEXT)
    with pytest.raises(CutError):
        train(
            config,
            OTHER_TEXT,
            checkpoints=tmp_path / "cut",
            start=start,
            mix=TEXT,
            callbacks=[CutAfter(4)],
        )
    resumed = Resume(start)
    with pytest.raises(InputError, match="other mix pairs"):
        train(config, OTHER_TEXT, checkpoints=tmp_path / "cut", start=resumed, mix=OTHER_TEXT)
    rest = train(config, OTHER_TEXT, checkpoints=tmp_path / "cut", start=resumed, mix=TEXT)
    assert_same(state_of(tmp_path / "cut"), state_of(tmp_path / "whole"))
    assert_same(rest.model.get_weights(), whole.model.get_weights())


def test_of_a_long_text_to_mix_in_a_sample_is_drawn(tmp_path):
    pairs = [("three four", "3 4"), ("four", "4")] * 8
    files = ParallelFiles(*write_pairs(tmp_path, "old", pairs))
    few, more, whole, same = (MixedText(files, small(shard_pairs=n)) for n in (5, 6, 16, 100))
    assert [len(each.text) for each in (few, more, whole, same)] == [5, 6, 16, 16]
    prints = {each.fingerprint for each in (few, more, whole, MixedText(TEXT, small()))}
    assert len(prints) == 4
    assert same.fingerprint == whole.fingerprint


def test_pairs_that_are_too_long_make_no_sample_of_a_text_to_mix_in(tmp_path, caplog):
    pairs = [("three four", "3 4"), ("four " * 20, "4")] * 8
    files = ParallelFiles(*write_pairs(tmp_path, "old", pairs))
    with caplog.at_level("INFO"):
        held, more = (MixedText(files, small(shard_pairs=n)) for n in (8, 100))
    assert [len(each.text) for each in (held, more)] == [8, 8]
    assert held.fingerprint == more.fingerprint
    assert "are drawn" not in caplog.text


def test_a_training_with_another_sample_mixed_in_is_not_gone_on_with(run, tmp_path):
    files = ParallelFiles(*write_pairs(tmp_path, "old", number_pairs(125, seed=1)))
    settings, folder = {**EVERY_UPDATE, "epochs": 2}, tmp_path / "c"

    def go_on(shard_pairs, start, *callbacks):
        config = small(**settings, shard_pairs=shard_pairs)
        return train(config, TEXT, checkpoints=folder, start=start, mix=files, callbacks=callbacks)

    with pytest.raises(CutError):
        go_on(20, FromRun(run), CutAfter(3))
    for other in (60, 1000):
        with pytest.raises(InputError, match=f"mix pairs.*shard_pairs=20.*shard_pairs={other}"):
            go_on(other, Resume(FromRun(run)))
    assert len(go_on(20, Resume(FromRun(run))).history["loss"]) == 2
