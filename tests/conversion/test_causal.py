"""GPT-2 and Llama folders of Hugging Face transformers; `make_causal.py` wrote them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

import ktransformer
from ktransformer.errors import InputError
from ktransformer.exporting import LiteModel, SavedModel, export_lite, export_saved_model
from ktransformer.tasks import GenerationConfig, IdGenerator, TextGenerator
from ktransformer.text import SpecialIds
from tests.layers.layer_checks import array

FOLDER = Path(__file__).parent / "causal"
NAMES = pytest.mark.parametrize("name", ["gpt2", "llama", "llama_ids"])
SEARCHED = pytest.mark.parametrize(
    "name",
    ["gpt2", *(pytest.param(name, marks=pytest.mark.long) for name in ("llama", "llama_ids"))],
)
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def stored():
    with np.load(FOLDER / "causal.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def generators():
    return {name: ktransformer.load(FOLDER / name) for name in ("gpt2", "llama", "llama_ids")}


def prompts_of(stored, name, key="prompts"):
    return [[i for i in row if i >= 0] for row in stored[f"{name}/{key}"].tolist()]


def padded(rows, pad):
    width = max(map(len, rows))
    return np.array([row + [pad] * (width - len(row)) for row in rows], np.int32)


def change(folder, file="config.json", **values):
    """Sets values of a JSON file."""
    path = folder / file
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **values}))


@pytest.fixture
def copy(tmp_path):
    return lambda name: Path(shutil.copytree(FOLDER / name, tmp_path / name))


@NAMES
def test_the_logits_are_those_of_transformers(stored, generators, name):
    logits = array(generators[name].model(stored[f"{name}/ids"]))
    expected = stored[f"{name}/logits"]
    size = expected.shape[-1]
    np.testing.assert_allclose(logits[..., :size], expected, rtol=0, atol=1e-4)
    assert (logits[..., size:] < -5e3).all()  # Added ids are never chosen.


@SEARCHED
def test_100_prompts_are_continued_as_by_transformers(stored, generators, name):
    prompts, end = prompts_of(stored, name), generators[name].special_ids.end
    found = generators[name].generate_ids(prompts, beam_size=1, max_new_tokens=NEW_TOKENS)
    for prompt, ids, new in zip(prompts, found, prompts_of(stored, name, "greedy"), strict=True):
        # At the limit the end token stands here, and any token there.
        assert ids[: len(prompt)] == prompt
        assert ids[len(prompt) :][: NEW_TOKENS - 1] == new[: NEW_TOKENS - 1]
        assert ids[-1] == end


@SEARCHED
def test_100_prompts_have_the_best_beam_of_transformers(stored, generators, name):
    prompts, generator = prompts_of(stored, name), generators[name]
    assert generator.decoding.beam_size == 4
    limited = generator.with_settings(max_new_tokens=NEW_TOKENS)
    outputs = limited.continue_ids(padded(prompts, generator.special_ids.pad))
    ids = [[i for i in row if i != generator.special_ids.pad] for row in outputs["ids"].numpy()]
    assert ids == prompts_of(stored, name, "beam")
    np.testing.assert_allclose(outputs["score"], stored[f"{name}/scores"], rtol=0, atol=1e-4)


def test_texts_are_continued_as_by_transformers(stored, generators):
    generator, texts = generators["llama"], json.loads(str(stored["llama/texts"]))
    assert isinstance(generator, TextGenerator)
    found = generator.generate(texts, max_new_tokens=NEW_TOKENS)
    prompts, beams = prompts_of(stored, "llama"), prompts_of(stored, "llama", "beam")
    rows = [prompt[1:] + new for prompt, new in zip(prompts, beams, strict=True)]
    pad = generator.special_ids.pad
    expected = generator.tokenizer.decode(tf.constant(padded(rows, pad))).numpy()
    assert [text.encode() for text in found] == expected.tolist()


def test_lines_are_encoded_as_by_sentencepiece(generators):
    with np.load(FOLDER / "text_ids.npz") as file:
        lines = json.loads(str(file["lines"]))
        expected = [file[f"ids/{i}"].tolist() for i in range(len(lines))]
    found = generators["llama"].tokenizer.encode_lines(lines)
    assert [ids[:-1].tolist() for ids in found] == expected


@pytest.mark.long
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_exports_take_ids(stored, generators, name, tmp_path):
    generator = generators[name].with_settings(max_new_tokens=NEW_TOKENS)
    signature = "serving_default" if name == "gpt2" else "ids"
    pad = generator.special_ids.pad
    prompts = padded(prompts_of(stored, name)[:20], pad)
    saved = SavedModel(export_saved_model(generator, tmp_path / "saved"))
    lite = LiteModel(export_lite(generator, tmp_path / "m.tflite", signatures=[signature]))
    for engine in (saved, lite):
        rows = engine.run(signature, prompts=prompts)["ids"]
        ids = [[i for i in row if i != pad] for row in rows.tolist()]
        assert ids == prompts_of(stored, name, "beam")[:20]
    with pytest.raises(InputError, match=f"prompts.*{generator.model.vocabulary_size}"):
        lite.run(signature, prompts=np.array([[generator.model.vocabulary_size]], np.int32))


def test_a_bpe_tokenizer_has_no_text_in_a_tflite(generators, tmp_path):
    with pytest.raises(InputError, match="BPE"):
        export_lite(generators["llama"], tmp_path / "m.tflite")


def test_the_folder_of_ids_is_written_and_read(stored, generators, tmp_path):
    generator = generators["gpt2"]
    assert generator.special_ids == SpecialIds(start=62, end=50, pad=60, unknown=61)
    ktransformer.tasks.save(generator, tmp_path / "run")
    loaded = ktransformer.load(tmp_path / "run", max_new_tokens=5)
    assert isinstance(loaded, IdGenerator)
    assert loaded.special_ids == generator.special_ids
    prompts = prompts_of(stored, "gpt2")[:5]
    assert loaded.decoding.early_stopping
    expected = generator.generate_ids(prompts, max_new_tokens=5)
    assert loaded.generate_ids(prompts) == expected


def test_an_empty_prompt_is_the_token_that_begins_a_text(generators):
    generator = generators["gpt2"]
    empty, begun = generator.generate_ids([[], [50]], beam_size=1, max_new_tokens=6)
    assert [50, *empty] == begun


@pytest.mark.long
def test_sampled_ids_depend_on_the_seed_alone(generators):
    generator = generators["gpt2"]
    one, two, other = (generator.generate_ids([[5, 7]], seed=seed) for seed in (1, 1, 2))
    assert one == two != other


def test_a_prompt_is_cut_to_the_longest_text(generators):
    generator = generators["gpt2"].with_settings(beam_size=1, max_length=8)
    outputs = generator.continue_ids([[5] * 12, [5] * 8 + [60] * 4])
    assert outputs["truncated"].numpy().tolist() == [1, 0]
    assert (outputs["ids"].numpy()[:, 0] == 50).all()


def test_the_names_of_the_first_release_are_known(stored, copy):
    folder = copy("gpt2")
    tensors = {
        name.removeprefix("transformer."): values
        for name, values in load_file(folder / "model.safetensors").items()
    }
    tensors["h.0.attn.bias"] = np.ones([1, 1, 48, 48], np.float32)
    save_file(tensors, folder / "model.safetensors")
    logits = array(ktransformer.load(folder).model(stored["gpt2/ids"]))[..., :60]
    np.testing.assert_allclose(logits, stored["gpt2/logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "table"),
    [("gpt2", "transformer.wte.weight"), ("llama_ids", "model.embed_tokens.weight")],
)
def test_a_tied_output_that_is_stored_must_be_a_copy_of_the_table(copy, name, table):
    folder = copy(name)
    tensors = load_file(folder / "model.safetensors")
    output = tensors[table].copy()
    save_file({**tensors, "lm_head.weight": output}, folder / "model.safetensors")
    assert ktransformer.load(folder).model.tie_embeddings
    output[3, 5] += 1
    save_file({**tensors, "lm_head.weight": output}, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"lm_head.weight is not {table}.*tie_word_embeddings"):
        ktransformer.load(folder)


def test_the_settings_of_generate_are_taken(copy):
    folder = copy("gpt2")
    values = {"num_beams": 3, "length_penalty": 0.5, "max_length": 20, "min_new_tokens": 2}
    (folder / "generation_config.json").write_text(json.dumps({**values, "eos_token_id": 50}))
    expected = GenerationConfig(
        beam_size=3,
        length_penalty=0.5,
        early_stopping=False,
        suppress_unknown=False,
        max_length=19,
        min_length=3,
    )
    assert ktransformer.load(folder).decoding == expected


# What `generate` has by default, as Hugging Face writes it where it is asked for every setting.
DEFAULTS = {
    **dict.fromkeys(
        [
            *("assistant_early_exit", "bad_words_ids", "begin_suppress_tokens", "cache_config"),
            *("cache_implementation", "compile_config", "constraints", "decoder_start_token_id"),
            *("dola_layers", "exponential_decay_length_penalty", "force_words_ids"),
            *("forced_bos_token_id", "forced_decoder_ids", "forced_eos_token_id"),
            *("guidance_scale", "low_memory", "max_matching_ngram_size", "max_new_tokens"),
            *("max_time", "min_new_tokens", "min_p", "output_logits", "pad_token_id"),
            *("penalty_alpha", "prefill_chunk_size", "prompt_lookup_num_tokens"),
            *("return_legacy_cache", "sequence_bias", "stop_strings", "suppress_tokens"),
            *("watermarking_config",),
        ]
    ),
    **dict.fromkeys(
        [
            *("disable_compile", "do_sample", "early_stopping", "is_assistant"),
            *("output_attentions", "output_hidden_states", "output_scores"),
            *("remove_invalid_values", "renormalize_logits", "return_dict_in_generate"),
            "token_healing",
        ],
        False,
    ),
    **dict.fromkeys(["encoder_no_repeat_ngram_size", "min_length", "no_repeat_ngram_size"], 0),
    **dict.fromkeys(["diversity_penalty", "epsilon_cutoff", "eta_cutoff"], 0.0),
    **dict.fromkeys(["num_beam_groups", "num_beams", "num_return_sequences"], 1),
    **dict.fromkeys(["encoder_repetition_penalty", "length_penalty", "repetition_penalty"], 1.0),
    **dict.fromkeys(["temperature", "top_p", "typical_p"], 1.0),
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "max_length": 20,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "target_lookbehind": 10,
    "top_k": 50,
    "use_cache": True,
}


def test_the_defaults_of_generate_are_taken_where_all_are_written(copy):
    folder = copy("gpt2")
    change(folder, "generation_config.json", **DEFAULTS)
    expected = GenerationConfig(
        early_stopping=False, suppress_unknown=False, max_length=19, top_k=50
    )
    assert ktransformer.load(folder).decoding == expected


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_every_rule_of_generate_that_is_unknown_here_is_named(copy, name):
    rules = {
        "epsilon_cutoff": 0.3,
        "guidance_scale": 3,
        "penalty_alpha": 0.6,
        "sequence_bias": [[[7], 2.0]],
        "stop_strings": ["."],
        "totally_unknown": 1,
    }
    folder = copy(name)
    change(folder, "generation_config.json", **rules)
    with pytest.raises(InputError) as error:
        ktransformer.load(folder)
    assert [rule for rule in rules if rule not in str(error.value)] == []


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("gpt2", {"n_layer": 10**9}, "2 layers.*n_layer=1000000000"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"activation_function": "quick_gelu"}, "quick_gelu"),
        ("gpt2", {"eos_token_id": [50, 51]}, r"eos_token_id=\[50, 51\]"),
        ("gpt2", {"bad_words_ids": [[7]]}, "bad_words_ids"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_type='llama3'"),
        ("llama", {"vocab_size": 10**9}, r"embed_tokens.*1000000000"),
        ("llama", {"head_dim": 16}, "head_dim=16.* 8 "),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads=3"),
        ("llama", {"hidden_act": "relu"}, "hidden_act='relu'"),
        ("llama", {"bos_token_id": 2}, "bos_token_id=2"),
        ("llama", {"attention_bias": True}, "lacks the tensor.*self_attn.q_proj.bias"),
        ("llama", {"sliding_window": 64}, "sliding_window"),
    ],
)
def test_what_cannot_be_expressed_is_named(copy, name, values, words):
    folder = copy(name)
    change(folder, **values)
    with pytest.raises(InputError, match=words):
        ktransformer.load(folder)


def token(text, **others):
    flags = dict.fromkeys(["lstrip", "normalized", "rstrip", "single_word"], False)
    return {"content": text, **flags, **others}


LLAMA_SPECIAL = {"bos_token": token("<s>"), "eos_token": token("</s>"), "unk_token": "<unk>"}


def test_the_usual_files_beside_a_tokenizer_model_are_taken(copy, generators):
    folder, pieces = copy("llama"), ("<unk>", "<s>", "</s>")
    change(
        folder,
        "tokenizer_config.json",
        **LLAMA_SPECIAL,
        add_bos_token=True,
        add_eos_token=False,
        add_prefix_space=True,
        added_tokens_decoder={str(i): token(text) for i, text in enumerate(pieces)},
        additional_special_tokens=[],
        chat_template="{{ messages }}",
        clean_up_tokenization_spaces=False,
        legacy=False,
        model_max_length=10**30,
        pad_token="<pad>",
        padding_side="left",
        sp_model_kwargs={},
        tokenizer_class="LlamaTokenizer",
        use_default_system_prompt=False,
    )
    change(folder, "special_tokens_map.json", **LLAMA_SPECIAL, additional_special_tokens=["<s>"])
    change(folder, "added_tokens.json", **{"<pad>": 330})
    fast = [token(text, id=i, special=True) for i, text in enumerate(pieces)]
    change(folder, "tokenizer.json", added_tokens=fast)
    assert ktransformer.load(folder).tokenizer.sha256 == generators["llama"].tokenizer.sha256


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("added_tokens.json", {"<tool>": 10}, r"added_tokens\.json adds the token '<tool>'"),
        ("added_tokens.json", {"<s>": 10}, "adds the token '<s>'"),
        ("special_tokens_map.json", {"additional_special_tokens": ["<tool>"]}, "'<tool>'"),
        ("tokenizer_config.json", {"extra_special_tokens": {"tool": "<tool>"}}, "'<tool>'"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"330": token("<tool>")}}, "'<tool>'"),
        ("tokenizer.json", {"added_tokens": [token("<tool>", id=330)]}, r"tokenizer\.json.*<tool>"),
        ("tokenizer_config.json", {"add_bos_token": False}, "add_bos_token=False"),
        ("tokenizer_config.json", {"add_eos_token": True}, "add_eos_token=True"),
        ("tokenizer_config.json", {"add_prefix_space": False}, "add_prefix_space=False"),
        ("tokenizer_config.json", {"bos_token": "</s>"}, "bos_token is '</s>'.*<s>"),
        ("tokenizer_config.json", {"clean_up_tokenization_spaces": True}, "clean_up"),
        ("tokenizer_config.json", {"sp_model_kwargs": {"enable_sampling": True}}, "sampling"),
        ("tokenizer_config.json", {"tokenizer_class": "CodeLlamaTokenizer"}, "CodeLlama"),
        ("tokenizer_config.json", {"totally_unknown": 1}, "totally_unknown"),
    ],
)
def test_what_would_give_other_ids_than_the_tokenizer_model_is_named(copy, file, values, words):
    folder = copy("llama")
    change(folder, file, **values)
    with pytest.raises(InputError, match=words):
        ktransformer.load(folder)
