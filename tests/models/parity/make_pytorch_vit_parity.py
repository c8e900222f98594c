"""Writes pytorch_vit.npz: what a small vision Transformer in PyTorch computes from known weights.

Command (in an environment of its own; PyTorch is no dependency of this package):

    pip install torch==2.13.0 numpy
    python tests/models/parity/make_pytorch_vit_parity.py

Versions: torch 2.13.0, Python 3.11. Weights and images are drawn from a seed, so that the program
writes the same numbers again. PyTorch computes in float64, so that the stored logits carry no
rounding but that to float32.

The model is made of PyTorch's own parts: a `Conv2d` for the patches, `TransformerEncoderLayer`s
(pre-norm, GELU), `LayerNorm`, `Linear`; `F.interpolate` (bilinear, corners not aligned) for
images of another size. The file holds the images, channels last, as `images/trained` and
`images/other`, and for each of "class_token" and "mean" `<pooling>/weights/<PyTorch's name>`,
`<pooling>/logits/trained` and `<pooling>/logits/other`: fewer rows of patches than
trained, and more columns.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

D, HEADS, HIDDEN, LAYERS, CLASSES, PATCH, CHANNELS = 8, 2, 16, 2, 5, 4, 3
SIZES = {"trained": (12, 16), "other": (8, 28)}  # Height and width, in pixels.
EPSILON = 1e-6


class VisionTransformer(torch.nn.Module):
    """A vision Transformer of PyTorch's own layers."""

    def __init__(self, class_token: bool) -> None:
        super().__init__()
        self.grid = tuple(side // PATCH for side in SIZES["trained"])
        patches = self.grid[0] * self.grid[1]
        self.patches = torch.nn.Conv2d(CHANNELS, D, kernel_size=PATCH, stride=PATCH)
        self.positions = torch.nn.Parameter(torch.zeros(patches + class_token, D))
        self.class_token = torch.nn.Parameter(torch.zeros(1, D)) if class_token else None
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                D,
                HEADS,
                HIDDEN,
                dropout=0.0,
                activation="gelu",
                layer_norm_eps=EPSILON,
                batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )
        self.norm = torch.nn.LayerNorm(D, eps=EPSILON)
        self.head = torch.nn.Linear(D, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.patches(images)  # [B, D, rows, columns]
        first = 0 if self.class_token is None else 1
        table = self.positions[first:].T.reshape(1, D, *self.grid)
        if maps.shape[2:] != table.shape[2:]:
            table = functional.interpolate(table, size=maps.shape[2:], mode="bilinear")
        hidden = (maps + table).flatten(2).transpose(1, 2)  # [B, N, D]
        if self.class_token is not None:
            token = (self.class_token + self.positions[:1]).expand(len(images), 1, D)
            hidden = torch.cat([token, hidden], dim=1)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.norm(hidden)
        return self.head(hidden.mean(dim=1) if self.class_token is None else hidden[:, 0])


def main() -> None:
    generator = np.random.default_rng(2021)
    arrays = {
        f"images/{name}": generator.uniform(-1, 1, (2, *size, CHANNELS)).astype("float32")
        for name, size in SIZES.items()
    }
    for pooling in ("class_token", "mean"):
        model = VisionTransformer(class_token=pooling == "class_token").double()
        for weight, values in draw_weights(model, generator).items():
            arrays[f"{pooling}/weights/{weight}"] = values
        for name in SIZES:
            images = torch.from_numpy(arrays[f"images/{name}"]).double().permute(0, 3, 1, 2)
            logits = model(images).detach().numpy()
            arrays[f"{pooling}/logits/{name}"] = logits.astype("float32")
    np.savez_compressed(Path(__file__).with_name("pytorch_vit.npz"), **arrays)


def draw_weights(model: torch.nn.Module, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Gives every weight of the model random values, biases and norms included."""
    drawn = {}
    for name, weight in model.named_parameters():
        values = generator.standard_normal(tuple(weight.shape)) * 0.4
        if "norm" in name and name.endswith("weight"):
            values += 1.0
        drawn[name] = values.astype("float32")
        weight.data = torch.from_numpy(drawn[name]).double()
    return drawn


if __name__ == "__main__":
    main()
