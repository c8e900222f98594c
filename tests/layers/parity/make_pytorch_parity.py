"""Writes pytorch.npz: what PyTorch's encoder and decoder layers compute from known weights.

Command (in an environment of its own; PyTorch is no dependency of this package):

    pip install torch==2.13.0 numpy
    python tests/layers/parity/make_pytorch_parity.py

Versions: torch 2.13.0, Python 3.11. Weights, inputs and masks are drawn from a seed, so that the
program writes the same numbers again. PyTorch computes in float64, so that the stored outputs
carry no rounding but that to float32.

The file holds, for each of "encoder" and "decoder" and each of "post" and "pre" (norm_first):
`<layer>/<order>/outputs`, `<layer>/<order>/weights/<PyTorch's name>`, and, for all of them,
`inputs` [B, T, D], `memory` [B, S, D], `mask` [B, T] and `memory_mask` [B, S] (True = real).
"""

from pathlib import Path

import numpy as np
import torch

B, T, S, D, HEADS, HIDDEN = 2, 5, 6, 8, 2, 16
LAYERS = {
    "encoder": torch.nn.TransformerEncoderLayer,
    "decoder": torch.nn.TransformerDecoderLayer,
}


def main() -> None:
    generator = np.random.default_rng(2017)
    arrays = {
        "inputs": generator.standard_normal((B, T, D)).astype("float32"),
        "memory": generator.standard_normal((B, S, D)).astype("float32"),
        # Pads at the end and, in the first sentence, in the middle.
        "mask": np.array([[True, True, False, True, False], [True] * 5]),
        "memory_mask": np.array([[True, False, True, True, True, False], [True] * 5 + [False]]),
    }
    for name, layer_class in LAYERS.items():
        for order, norm_first in (("post", False), ("pre", True)):
            layer = layer_class(
                D, HEADS, HIDDEN, dropout=0.0, batch_first=True, norm_first=norm_first
            ).double()
            for weight, values in draw_weights(layer, generator).items():
                arrays[f"{name}/{order}/weights/{weight}"] = values
            arrays[f"{name}/{order}/outputs"] = run(layer, arrays)
    np.savez_compressed(Path(__file__).with_name("pytorch.npz"), **arrays)


def draw_weights(layer: torch.nn.Module, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Gives every weight of the layer random values, biases and norms included."""
    drawn = {}
    for name, weight in layer.named_parameters():
        values = generator.standard_normal(tuple(weight.shape)) * 0.4
        if name.startswith("norm") and name.endswith("weight"):
            values += 1.0
        drawn[name] = values.astype("float32")
        weight.data = torch.from_numpy(drawn[name]).double()
    return drawn


def run(layer: torch.nn.Module, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Calls the layer on the arrays; in PyTorch's masks True means: do not attend."""
    inputs = torch.from_numpy(arrays["inputs"]).double()
    memory = torch.from_numpy(arrays["memory"]).double()
    padding = torch.from_numpy(~arrays["mask"])
    if isinstance(layer, torch.nn.TransformerEncoderLayer):
        outputs = layer(inputs, src_key_padding_mask=padding)
    else:
        outputs = layer(
            inputs,
            memory,
            tgt_mask=torch.triu(torch.ones(T, T, dtype=torch.bool), diagonal=1),
            tgt_key_padding_mask=padding,
            memory_key_padding_mask=torch.from_numpy(~arrays["memory_mask"]),
        )
    return outputs.detach().numpy().astype("float32")


if __name__ == "__main__":
    main()
