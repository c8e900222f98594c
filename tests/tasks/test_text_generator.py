import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from ktransformer.decoding import SuppressedIds
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.exporting.saved_model.warmup_requests import read_warmup
from ktransformer.models import CausalLanguageModel
from ktransformer.tasks import GenerationConfig, TextGenerator, load, save
from ktransformer.verification import verify
from tests.layers.layer_checks import array
from tests.small_models import small_filler, small_generator

PROMPTS = ["two five", "", "one six seven", "nine " * 30, "four"]
INPUTS = {
    "serving_default": {"prompts": PROMPTS},
    "beam": {"prompts": PROMPTS},
    "sample": {"prompts": PROMPTS, "seed": 7, "temperature": 1.5},
    "score": {"texts": PROMPTS},
}

DECODING = GenerationConfig(beam_size=3, top_k=20, early_stopping=False)


@pytest.fixture(scope="module")
def generator():
    return small_generator(DECODING, output_bias=True)


@pytest.fixture(scope="module")
def greedy(generator):
    return generator.with_settings(beam_size=1)


@pytest.fixture(scope="module")
def saved_model(generator, tmp_path_factory):
    return export_saved_model(generator, tmp_path_factory.mktemp("generator") / "model")


@pytest.fixture(scope="module")
def lite_file(generator, tmp_path_factory):
    return export_lite(generator, tmp_path_factory.mktemp("generator") / "model.tflite")


def most_probable_ids(generator, prompt):
    """Appends the best ordinary token, step by step, with calls on the whole text."""
    special = generator.tokenizer.special_ids
    (ids,) = generator.tokenizer.encode_lines([prompt])
    ids = [special.start, *ids[:-1]]
    while len(ids) < generator.max_length:
        logits = array(generator.model(np.array([ids])))[0, -1]
        logits[[special.pad, special.start, special.unknown]] = -np.inf
        if logits.argmax() == special.end:
            break
        ids.append(logits.argmax())
    return ids[1:]


@pytest.mark.parametrize("prompt", ["two five", ""])
def test_greedy_search_appends_the_most_probable_token_of_whole_calls(greedy, prompt):
    ids = most_probable_ids(greedy, prompt)
    expected = greedy.tokenizer.decode(tf.constant([ids], tf.int32)).numpy()[0].decode()
    assert greedy.generate([prompt]) == [expected]


def test_a_text_begins_with_its_prompt(greedy):
    (text,) = greedy.generate(["one  six seven"], max_new_tokens=3)
    assert text.startswith("one six seven")
    assert len(greedy.tokenizer.encode_lines([text])[0]) > 4


def test_prompts_of_several_lengths_are_continued_alike_together_and_alone(generator):
    together = generator.beam(tf.constant(PROMPTS))
    for i, prompt in enumerate(PROMPTS):
        alone = generator.beam(tf.constant([prompt]))
        assert alone["text"][0].numpy().tolist() == together["text"][i].numpy().tolist()
        np.testing.assert_allclose(alone["score"][0], together["score"][i], atol=1e-5)


def test_a_prompt_is_sampled_alike_whatever_stands_below_it(generator):
    together = generator.generate(PROMPTS, seed=3)
    assert generator.generate(PROMPTS[:2], seed=3) == together[:2]


def test_the_score_of_a_continuation_is_that_of_the_text_less_that_of_the_prompt(greedy):
    found = greedy.with_settings(length_penalty=0.0).continue_prompts(tf.constant(["two five"]))
    ids = np.array([[greedy.tokenizer.special_ids.start, *most_probable_ids(greedy, "two five")]])
    logits = array(greedy.model(ids)).astype("float64")
    chances = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    labels = [*ids[0, 1:], greedy.tokenizer.special_ids.end]
    read = len(greedy.tokenizer.encode_lines(["two five"])[0]) - 1
    expected = sum(chances[0, place, labels[place]] for place in range(read, len(labels)))
    assert found["score"][0].numpy() == pytest.approx(expected, rel=1e-4)


def test_a_text_is_scored_with_its_end(greedy):
    (ids,) = greedy.tokenizer.encode_lines(["two five"])
    inputs = np.array([[greedy.tokenizer.special_ids.start, *ids[:-1]]])
    logits = array(greedy.model(inputs))[0].astype("float64")
    chances = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    found = greedy.score(tf.constant(["two five", "one two three four five"]))
    expected = chances[np.arange(len(ids)), ids].sum()
    assert found["log_probability"][0].numpy() == pytest.approx(expected, rel=1e-5)
    assert found["tokens"][0] == len(ids)


def test_a_long_prompt_is_cut_and_says_so(generator):
    found = generator.continue_prompts(tf.constant(PROMPTS))
    assert found["truncated"].numpy().tolist() == [False, False, False, True, False]
    assert found["text"][3] == b" ".join([b"nine"] * 11)


def test_the_limits_count_tokens_with_the_end(greedy):
    ends = GenerationConfig(min_length=9)  # No continuation ends by itself.
    long = TextGenerator(greedy.model, greedy.tokenizer, ends)
    ids = most_probable_ids(greedy, "two five")
    for settings, length in (({"max_new_tokens": 3}, 4), ({"max_length": 6}, 5)):
        (text,) = long.generate(["two five"], **settings)
        expected = greedy.tokenizer.decode(tf.constant([ids[:length]], tf.int32)).numpy()[0]
        assert text == expected.decode()


@pytest.mark.long
def test_sampling_options_and_rules_narrow_the_draw(greedy):
    best = greedy.generate(PROMPTS)
    for options in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-6}):
        assert greedy.generate(PROMPTS, seed=1, **options) == best
    assert greedy.generate(PROMPTS, seed=1, temperature=3.0, top_k=0) != best
    (ids,) = greedy.tokenizer.encode_lines([best[0]])
    new = int(ids[len(greedy.tokenizer.encode_lines(["two five"])[0]) - 1])
    assert greedy.generate(PROMPTS, rules=[SuppressedIds([new])])[0] != best[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 5}, "top_k.*seed"),
        ({"beams": 5}, "beam_size.*beams"),
        ({"beam_size": 0}, "beam_size.*1.*=0"),
        ({"seed": 1, "temperature": 0}, "temperature.*0"),
        ({"max_length": 13}, "max_length.*12.*13"),
        ({"seed": 1.5}, "seed.*1.5"),
    ],
)
def test_a_wrong_option_is_refused(greedy, options, message):
    with pytest.raises(InputError, match=message):
        greedy.generate(["one"], **options)


def test_a_generator_is_made_of_parts_that_fit(generator):
    with pytest.raises(TypeError, match=r"model.*CausalLanguageModel"):
        TextGenerator(small_filler().model, generator.tokenizer)
    other = CausalLanguageModel(9, num_layers=1, d_model=8, hidden_dim=8, num_heads=1)
    with pytest.raises(InputError, match="9"):
        TextGenerator(other, generator.tokenizer)


FRESH = """
import sys
import tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
prompts = tf.constant(sys.argv[2:])
print(model.signatures["serving_default"](prompts)["text"].numpy().tolist())
seed, temperature = tf.constant(7, tf.int64), tf.constant(1.5)
drawn = model.signatures["sample"](prompts=prompts, seed=seed, temperature=temperature)
print(drawn["text"].numpy().tolist())
assert "ktransformer" not in sys.modules
"""


@pytest.mark.long
def test_the_saved_model_writes_the_same_in_a_process_without_ktransformer(generator, saved_model):
    result = subprocess.run(
        [sys.executable, "-c", FRESH, str(saved_model), *PROMPTS],
        capture_output=True,
        text=True,
        check=True,
    )
    best = generator.continue_prompts(tf.constant(PROMPTS))["text"].numpy().tolist()
    drawn = generator.sample(tf.constant(PROMPTS), 7, 1.5)["text"].numpy().tolist()
    assert result.stdout.splitlines() == [str(best), str(drawn)]


@pytest.mark.long
@pytest.mark.parametrize("name", INPUTS)
def test_both_exports_give_what_the_model_gives(generator, saved_model, lite_file, name):
    inputs = INPUTS[name]
    function = generator.saved_model_signatures()[name]
    expected = function(*(tf.constant(value) for value in inputs.values()))
    for model in (SavedModel(saved_model), LiteModel(lite_file)):
        outputs = model.run(name, **inputs)
        assert outputs.keys() == expected.keys()
        for key, tensor in expected.items():
            if tensor.dtype.is_floating:
                np.testing.assert_allclose(outputs[key], tensor, atol=2e-4, err_msg=key)
            else:
                np.testing.assert_array_equal(outputs[key], tensor, err_msg=key)


@pytest.mark.long
def test_a_file_of_a_fixed_batch_writes_the_same(generator, tmp_path):
    signatures = ["serving_default", "sample"]
    path = tmp_path / "two.tflite"
    model = LiteModel(export_lite(generator, path, signatures=signatures, batch_size=2))
    for name in signatures:
        inputs = {**INPUTS[name], "prompts": PROMPTS[1:3]}
        function = generator.saved_model_signatures()[name]
        expected = function(*(tf.constant(value) for value in inputs.values()))["text"]
        assert model.run(name, **inputs)["text"].tolist() == expected.numpy().tolist()


@pytest.mark.long
def test_verify_finds_the_exports_of_a_folder_equal(generator, saved_model, lite_file, tmp_path):
    save(generator, tmp_path / "run")
    (tmp_path / "prompts").write_text("two five\n\none six seven\n", encoding="utf-8")
    report = verify([saved_model, lite_file], tmp_path / "run", tmp_path / "prompts", batch_size=3)
    compared = [result for result in report.results if result.kind != "model"]
    assert len(compared) == 10
    assert all(not result.broken and result.identical == 1 for result in compared)


def test_a_folder_keeps_the_settings(generator, tmp_path):
    save(generator, tmp_path / "run")
    loaded = load(tmp_path / "run", max_new_tokens=2)
    assert isinstance(loaded, TextGenerator)
    assert loaded.decoding == dataclasses.replace(DECODING, max_new_tokens=2)
    assert loaded.generate(["two"]) == generator.generate(["two"], max_new_tokens=2)


def test_a_server_is_warmed_up_with_every_signature(saved_model):
    requests = list(read_warmup(saved_model))
    assert {request.signature for request in requests} == set(INPUTS)
