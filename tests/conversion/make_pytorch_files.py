"""Writes the files of `torch.save` that test_tensors.py reads; needs PyTorch, as no test does.

    python tests/conversion/make_pytorch_files.py

Made with PyTorch 2.13.0 (CPU).
"""

from pathlib import Path

import torch

FOLDER = Path(__file__).parent / "pytorch_files"


def main() -> None:
    """Writes the same tensors in the format of today, in that before 1.6, and in two shards."""
    shared = torch.arange(12.0)
    tensors = {
        "half": torch.tensor([[1.0, -2.5, 0.125]]).half(),
        "bfloat16": torch.tensor([1.0, 3.0]).bfloat16(),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "parameter": torch.nn.Parameter(torch.tensor([0.5])),
        "first": shared[:4].reshape(2, 2),
        "rest": shared[4:],
        "position_ids": torch.arange(3),
        "scalar": torch.tensor(7.0),
        "empty": torch.zeros(0, 4),
    }
    FOLDER.mkdir(exist_ok=True)
    torch.save(tensors, FOLDER / "zip.bin")
    torch.save(tensors, FOLDER / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), FOLDER / "module.bin")
    torch.save({"step": 3, "first": shared}, FOLDER / "number.bin")


if __name__ == "__main__":
    main()
