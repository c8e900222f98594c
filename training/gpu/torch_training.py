"""PyTorch's side of the comparison: `nn.Transformer`, compiled, on the same device."""

import os
from collections.abc import Callable

import torch

os.environ.setdefault("BENCHMARK_THREADS", str(os.cpu_count() or 1))

from training.benchmark.engine_torch import EncoderDecoder
from training.benchmark.training_workload import PAD_ID, TrainingWorkload


def open_torch(work: TrainingWorkload, precision: str) -> Callable[[], float]:
    """Compiles the model; returns what fits all batches once and gives the last one's loss."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")  # TF32, as XLA takes for float32.
    model = EncoderDecoder(work).to(device).train()
    step_model = torch.compile(model)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=PAD_ID, label_smoothing=work.label_smoothing)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True
    )
    batches = [
        tuple(torch.from_numpy(ids).long().to(device) for ids in batch) for batch in work.batches
    ]
    half = precision == "mixed_bfloat16"

    def fit() -> float:
        for source, target, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = step_model(source, target)
                loss = loss_of(logits.flatten(0, 1), labels.flatten())
            loss.backward()
            optimizer.step()
        return float(loss.item())

    return fit
