"""Gives our weights to Hugging Face Marian and to CTranslate2. Runs in the peers' environment.

    .peers/vt/bin/python -m export.benchmark.convert_peers FOLDER

FOLDER is one that `prepare.py` wrote; `hf`, `ct2.float32` and `ct2.int8` are added to it.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch
from ctranslate2.converters.transformers import BartLoader, MarianMTLoader
from transformers import MarianConfig, MarianMTModel

from export.benchmark.workload import Workload

# Their name of a sublayer and of its norm: ours.
_ATTENTIONS = {
    "self_attn": ("self_attn_layer_norm", "self_attention"),
    "encoder_attn": ("encoder_attn_layer_norm", "cross_attention"),
}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def main() -> int:
    """Converts the folder that is named."""
    work = Workload.load(sys.argv[1])
    model = make_marian(work, dict(np.load(work.folder / "weights.npz")))
    model.save_pretrained(work.folder / "hf")
    for weights in ("float32", "int8"):
        save_ctranslate2(model, work, weights)
    return 0


def make_marian(work: Workload, arrays: dict[str, np.ndarray]) -> MarianMTModel:
    """Makes Hugging Face's model of our weights."""
    sizes, special = work.sizes, work.special
    config = MarianConfig(
        vocab_size=sizes["vocabulary_size"],
        d_model=sizes["d_model"],
        encoder_layers=sizes["num_layers"],
        decoder_layers=sizes["num_decoder_layers"],
        encoder_attention_heads=sizes["num_heads"],
        decoder_attention_heads=sizes["num_heads"],
        encoder_ffn_dim=sizes["hidden_dim"],
        decoder_ffn_dim=sizes["hidden_dim"],
        activation_function="relu",
        max_position_embeddings=sizes["max_length"],
        scale_embedding=True,
        dropout=0.0,
        pad_token_id=special["pad"],
        eos_token_id=special["end"],
        decoder_start_token_id=special["start"],
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config).eval()
    state = model.state_dict()
    new = renamed(arrays, config)
    for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"):
        new[f"model.{name}.weight"] = arrays["embeddings"]
    new["lm_head.weight"] = arrays["embeddings"]
    # The positions and the output's bias of zeros are theirs; all else must be ours.
    left = {name for name in state if "embed_positions" in name or name == "final_logits_bias"}
    if state.keys() - left != new.keys() - left:
        raise RuntimeError(f"Not the weights of Marian: {sorted(state.keys() ^ new.keys())}")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in new.items()}
    model.load_state_dict(tensors, strict=False)
    return model


def renamed(arrays: dict[str, np.ndarray], config: MarianConfig) -> dict[str, np.ndarray]:
    """Turns our blocks' weights into Marian's: kernels turned round, fused ones cut apart."""
    new: dict[str, np.ndarray] = {}

    def linear(name: str, kernel: np.ndarray, bias: np.ndarray) -> None:
        new[f"{name}.weight"], new[f"{name}.bias"] = kernel.T, bias

    def dense(name: str, path: str) -> None:
        linear(name, arrays[f"{path}/kernel"], arrays[f"{path}/bias"])

    def norm(name: str, path: str) -> None:
        new[f"{name}.weight"], new[f"{name}.bias"] = arrays[f"{path}/gamma"], arrays[f"{path}/beta"]

    layers = {"encoder": config.encoder_layers, "decoder": config.decoder_layers}
    for side, i in ((side, i) for side, count in layers.items() for i in range(count)):
        theirs, ours = f"model.{side}.layers.{i}", f"{side}/{i}"
        for attention, (its_norm, sublayer) in _ATTENTIONS.items():
            if f"{ours}/{sublayer}_norm/gamma" not in arrays:
                continue  # An encoder's block has no cross-attention.
            kernels = fused(arrays, f"{ours}/{sublayer}", "kernel")
            biases = fused(arrays, f"{ours}/{sublayer}", "bias")
            for projection, kernel, bias in zip(_PROJECTIONS, kernels, biases, strict=True):
                linear(f"{theirs}.{attention}.{projection}", kernel, bias)
            dense(f"{theirs}.{attention}.out_proj", f"{ours}/{sublayer}/output_projection")
            norm(f"{theirs}.{its_norm}", f"{ours}/{sublayer}_norm")
        dense(f"{theirs}.fc1", f"{ours}/feed_forward/hidden_projection")
        dense(f"{theirs}.fc2", f"{ours}/feed_forward/output_projection")
        norm(f"{theirs}.final_layer_norm", f"{ours}/feed_forward_norm")
    return new


def fused(arrays: dict[str, np.ndarray], path: str, part: str) -> list[np.ndarray]:
    """Returns an attention's query, key and value parts of `kernel` or `bias`."""
    if f"{path}/input_projection/{part}" in arrays:
        return np.split(arrays[f"{path}/input_projection/{part}"], 3, axis=-1)
    key_value = np.split(arrays[f"{path}/memory_projection/{part}"], 2, axis=-1)
    return [arrays[f"{path}/query_projection/{part}"], *key_value]


class StartTokenLoader(MarianMTLoader):
    """Converts a Marian model whose decoder starts from a token's vector, not from zeros.

    Nor is the last row of the vocabulary padding that one may drop.
    """

    def set_decoder(self, spec, decoder) -> None:
        """Keeps the embedding of the start token."""
        BartLoader.set_decoder(self, spec, decoder)

    def set_config(self, config, model, tokenizer) -> None:
        """Names the special pieces."""
        BartLoader.set_config(self, config, model, tokenizer)

    def get_vocabulary(self, model, tokenizer) -> list[str]:
        """Lists the pieces by id."""
        return BartLoader.get_vocabulary(self, model, tokenizer)

    def _remove_pad_weights(self, spec) -> None:
        """Keeps all rows."""


def save_ctranslate2(model: MarianMTModel, work: Workload, weights: str) -> None:
    """Writes `ct2.WEIGHTS`; a piece's text is its id."""
    pieces = [str(i) for i in range(work.sizes["vocabulary_size"])]
    special = {name: str(number) for name, number in work.special.items()}
    tokenizer = types.SimpleNamespace(
        get_vocab=lambda: {piece: i for i, piece in enumerate(pieces)},
        convert_ids_to_tokens=str,
        bos_token=special["start"],
        eos_token=special["end"],
        unk_token=special["unknown"],
    )
    spec = StartTokenLoader()(model, tokenizer)
    spec.validate()
    spec.optimize(quantization=None if weights == "float32" else weights)
    folder = Path(work.folder, f"ct2.{weights}")
    folder.mkdir(exist_ok=True)
    spec.save(str(folder))


if __name__ == "__main__":
    sys.exit(main())
