"""Writes the folders in causal/, and what Hugging Face transformers computes with them.

Command (in an environment of its own; none of these is a dependency of this package):

    pip install torch==2.13.0 transformers==5.24.0 sentencepiece==0.2.3 numpy
    python tests/conversion/make_causal.py

Versions: torch 2.13.0, transformers 5.24.0, sentencepiece 0.2.3, Python 3.11. Weights and prompts
are drawn from a seed, so that the program writes the same numbers again. Each folder has a random
model as `save_pretrained` writes it: `gpt2`; `llama`, with the tokenizer.model of a small BPE with
byte fallback, of the options of Llama 2's; and `llama_ids`, tied, with biases in the attention
alone.

causal.npz holds for each folder `<folder>/ids`, int32 [B, T], with their `logits`; and 100
`prompts`, int32 [100, P], padded with -1, with what `generate` continues them with, greedily and by
a beam of 4, at most 24 new tokens: `greedy`, `beam` and `scores`, the beam's. `early_stopping` is
true for `gpt2` and false for the others. Prompts whose best beam did not end in time are left out:
there an end token costs nothing in transformers. `llama` also has the prompts as `texts`.

text_ids.npz holds lines of several kinds and the ids that sentencepiece gives them.
"""

import io
import json
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

FOLDER = Path(__file__).parent / "causal"
NEW_TOKENS, BEAMS, PROMPTS = 24, 4, 100
LINE = "two young dogs run over a green hill while the old man reads his paper on red bench"
WORDS = LINE.split()
ODD = (
    "",
    " ",
    "  two  dogs ",
    "Two DOGS!",
    "caf\u00e9 na\u00efve \u00df \u2026 \u00bd",
    "\u4f60\u597d dogs",
    "dogs\trun\nover",
    "\U0001f600 12,345.67",
    "\u2581two\u2581dogs",
    "<s> two </s> <unk> <0x41>",
    "a\u0301b \u202e x \u00a0y",
    "e\ufb01n \uff21\uff22",
)


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    generator = np.random.default_rng(2019)
    tokenizer = train_tokenizer(generator)
    arrays: dict[str, np.ndarray] = {}
    models = {
        "gpt2": GPT2LMHeadModel(
            GPT2Config(
                vocab_size=60,
                n_positions=48,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_inner=40,
                bos_token_id=50,
                eos_token_id=50,
            )
        ),
        "llama": LlamaForCausalLM(
            LlamaConfig(
                vocab_size=tokenizer.vocab_size() + 2,
                hidden_size=32,
                intermediate_size=44,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=64,
                rms_norm_eps=1e-5,
                rope_theta=1000.0,
            )
        ),
        "llama_ids": LlamaForCausalLM(
            LlamaConfig(
                vocab_size=50,
                hidden_size=32,
                intermediate_size=44,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=64,
                hidden_act="gelu",
                attention_bias=True,
                tie_word_embeddings=True,
            )
        ),
    }
    for name, model in models.items():
        draw_weights(model.eval(), generator)
        model.generation_config.num_beams = BEAMS
        model.generation_config.early_stopping = name == "gpt2"
        model.save_pretrained(FOLDER / name)
        ids = generator.integers(3, model.config.vocab_size, (3, 14))
        model.double()
        with torch.no_grad():
            logits = model(torch.from_numpy(ids)).logits.float().numpy()
        arrays |= {f"{name}/ids": ids.astype("int32"), f"{name}/logits": logits}
        texts = None
        if name == "llama":
            texts = draw_lines(generator, 500, 1, 4)
            prompts = [[1, *tokenizer.encode(text)] for text in texts]
        else:
            size = model.config.vocab_size
            lengths = generator.integers(1, 12, 500)
            prompts = [generator.integers(3, size, length).tolist() for length in lengths]
        arrays |= {f"{name}/{key}": value for key, value in run(model, prompts, texts).items()}
    (FOLDER / "llama" / "tokenizer.model").write_bytes(tokenizer.serialized_model_proto())
    np.savez_compressed(FOLDER / "causal.npz", **arrays)
    lines = [*ODD, *draw_lines(generator, 100, 3, 12)]
    encoded = {f"ids/{i}": np.array(tokenizer.encode(x), "int32") for i, x in enumerate(lines)}
    np.savez_compressed(FOLDER / "text_ids.npz", lines=json.dumps(lines), **encoded)


def draw_weights(model: torch.nn.Module, generator: np.random.Generator) -> None:
    for name, weight in model.named_parameters():
        values = generator.standard_normal(tuple(weight.shape)) * 0.3
        if ("norm" in name or "ln_" in name) and "weight" in name:
            values += 1
        weight.data = torch.from_numpy(values).float()
    # An end token that is sometimes the best.
    model.get_output_embeddings().weight.data[model.config.eos_token_id] *= 2


def run(
    model: torch.nn.Module, prompts: list[list[int]], texts: list[str] | None
) -> dict[str, np.ndarray]:
    """Continues prompts, those of one length together, and keeps 100 of all lengths."""
    end = model.config.eos_token_id
    # A text of ours never gets the start token.
    others = {} if texts is None else {"suppress_tokens": [1]}
    options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "pad_token_id": end, **others}
    kept: dict[str, list[object]] = {"prompts": [], "greedy": [], "beam": [], "scores": []}
    chosen: list[int] = []
    for length in sorted({len(prompt) for prompt in prompts}):
        places = [i for i, prompt in enumerate(prompts) if len(prompt) == length]
        ids = torch.tensor([prompts[i] for i in places])
        beams = model.generate(ids, return_dict_in_generate=True, output_scores=True, **options)
        greedy = model.generate(ids, num_beams=1, early_stopping=False, **options)
        greedy = greedy[:, length:].tolist()
        best = beams.sequences[:, length:].tolist()
        ended = [row for row, new in enumerate(best) if end in new]
        for row in ended:
            kept["prompts"].append(prompts[places[row]])
            kept["greedy"].append(cut(greedy[row], end))
            kept["beam"].append(cut(best[row], end))
            kept["scores"].append(float(beams.sequences_scores[row]))
            chosen.append(places[row])
    print(len(chosen), "prompts")
    assert len(chosen) >= PROMPTS, len(chosen)
    places = np.linspace(0, len(chosen) - 1, PROMPTS).astype(int)  # Of all lengths.
    chosen = [chosen[i] for i in places]
    kept = {name: [rows[i] for i in places] for name, rows in kept.items()}
    arrays = {name: pad(kept[name]) for name in ("prompts", "greedy", "beam")}
    arrays["scores"] = np.array(kept["scores"], "float32")
    if texts is not None:
        arrays["texts"] = np.array(json.dumps([texts[i] for i in chosen]))
    return arrays


def cut(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids


def pad(rows: list[list[int]]) -> np.ndarray:
    padded = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded


def train_tokenizer(generator: np.random.Generator) -> sentencepiece.SentencePieceProcessor:
    """Trains a BPE with the options of Llama 2's tokenizer."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(draw_lines(generator, 400, 4, 12)),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        character_coverage=0.99995,
        num_threads=1,
        minloglevel=3,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def draw_lines(generator: np.random.Generator, count: int, least: int, most: int) -> list[str]:
    lengths = generator.integers(least, most + 1, count)
    return [" ".join(generator.choice(WORDS, length)) for length in lengths]


if __name__ == "__main__":
    main()
