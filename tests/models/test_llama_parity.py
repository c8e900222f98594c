"""A tiny Llama of Hugging Face transformers, rebuilt from the options of a block.

`parity/make_llama_parity.py` made the file. Rotary positions, grouped-query attention, RMSNorm and
SwiGLU all take part, so a mistake in any of them shows.
"""

from pathlib import Path

import numpy as np
import pytest

from ktransformer.models import CausalLanguageModel, check_decoding
from tests.layers.layer_checks import array

ATTENTION, NETWORK = "model.layers.{}.self_attn.{}_proj", "model.layers.{}.mlp.{}_proj"


@pytest.fixture(scope="module")
def arrays():
    with np.load(Path(__file__).parent / "parity" / "llama.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def llama(arrays):
    """The model with the weights of the file."""
    model = CausalLanguageModel(
        40,
        num_layers=2,
        d_model=32,
        num_heads=4,
        num_kv_heads=2,
        hidden_dim=44,
        max_length=16,
        norm="rms",
        feed_forward="swiglu",
        positions="rotary",
        use_bias=False,
        tie_embeddings=False,
        epsilon=1e-6,
        pad_id=-1,  # Every id is real.
    )
    model.build()

    def weight(name):
        return arrays[f"weights/{name}.weight"]

    def kernel(pattern, index, *names):
        """Joins projections along their outputs; PyTorch keeps kernels transposed."""
        return np.concatenate([weight(pattern.format(index, name)).T for name in names], axis=1)

    model.target_embedding.embeddings.assign(weight("model.embed_tokens"))
    model.output_embedding.kernel.assign(weight("lm_head").T)
    model.decoder.final_norm.gamma.assign(weight("model.norm"))
    for i, block in enumerate(model.decoder.blocks):
        attention, network = block.self_attention, block.feed_forward
        attention.input_projection.kernel.assign(kernel(ATTENTION, i, "q", "k", "v"))
        attention.output_projection.kernel.assign(kernel(ATTENTION, i, "o"))
        network.gate_projection.kernel.assign(kernel(NETWORK, i, "gate"))
        network.hidden_projection.kernel.assign(kernel(NETWORK, i, "up"))
        network.output_projection.kernel.assign(kernel(NETWORK, i, "down"))
        block.self_attention_norm.gamma.assign(weight(f"model.layers.{i}.input_layernorm"))
        after = f"model.layers.{i}.post_attention_layernorm"
        block.feed_forward_norm.gamma.assign(weight(after))
    return model


def test_the_logits_are_those_of_llama(arrays, llama):
    expected = arrays["logits"]
    limit = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(array(llama(arrays["ids"])), expected, atol=limit)


def test_the_file_holds_every_weight_of_the_model(arrays, llama):
    weights = sum(value.size for name, value in arrays.items() if name.startswith("weights/"))
    assert llama.count_params() == weights


def test_the_cached_steps_of_llama_equal_the_whole_call(llama):
    assert check_decoding(llama) < 1e-5
