"""Writes llama.npz: what a tiny Llama of Hugging Face transformers computes from drawn weights.

Command (in an environment of its own; neither package is a dependency of this one):

    pip install torch==2.13.0 transformers==5.24.0 numpy
    python tests/models/parity/make_llama_parity.py

Weights and ids are drawn from a seed, so that the program writes the same numbers again. The model
computes in float64: the stored outputs carry no rounding but that to float32. It has rotary
positions, 4 heads of queries on 2 of keys and values, RMSNorm before each sublayer, a SwiGLU
network, no bias, and an output table of its own.

The file holds `ids`, int32 [B, T]; `logits`, float32 [B, T, V]; `weights/<their name>`; and, of
functions that other models use: `relative_positions`, int32 [N], with T5's `buckets_bidirectional`
and `buckets_causal` of 32 buckets up to a distance of 128, and BLOOM's ALiBi slopes of 4, 6, 8 and
12 heads as `slopes_<heads>`.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

B, T, VOCABULARY = 3, 11, 40
CONFIG = LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=44,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=16,
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    attn_implementation="eager",
)


def main() -> None:
    generator = np.random.default_rng(2023)
    ids = generator.integers(0, VOCABULARY, (B, T), np.int32)
    arrays = {"ids": ids}
    model = LlamaForCausalLM(CONFIG).double().eval()
    for name, weight in model.named_parameters():
        values = generator.standard_normal(tuple(weight.shape)) * 0.3
        if "norm" in name:
            values += 1.0
        arrays[f"weights/{name}"] = values.astype("float32")
        weight.data = torch.from_numpy(arrays[f"weights/{name}"]).double()
    with torch.no_grad():
        logits = model(torch.from_numpy(ids).long()).logits
    arrays["logits"] = logits.numpy().astype("float32")

    distances = np.arange(-150, 151, dtype=np.int32)
    arrays["relative_positions"] = distances
    for name, bidirectional in (("bidirectional", True), ("causal", False)):
        buckets = T5Attention._relative_position_bucket(
            torch.from_numpy(distances).long(), bidirectional, num_buckets=32, max_distance=128
        )
        arrays[f"buckets_{name}"] = buckets.numpy().astype("int32")
    for heads in (4, 6, 8, 12):
        bias = build_alibi_tensor(torch.ones(1, 2), heads, torch.float64)  # [heads, 1, 2]
        arrays[f"slopes_{heads}"] = bias[:, 0, 1].numpy()
    np.savez_compressed(Path(__file__).with_name("llama.npz"), **arrays)


if __name__ == "__main__":
    main()
