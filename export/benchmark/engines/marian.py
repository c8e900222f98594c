"""Hugging Face's MarianMTModel, on our weights."""

import os

import torch
import transformers

from export.benchmark.workload import Ids, Workload


class Engine:
    """Decodes with `hf`, by `generate`.

    Args:
        work: What is decoded.
        beam: K.
    """

    def __init__(self, work: Workload, beam: int) -> None:
        torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))
        transformers.logging.set_verbosity_error()
        self._work, self._beam = work, beam
        self._pad = work.special["pad"]
        self._model = transformers.MarianMTModel.from_pretrained(work.folder / "hf").eval()

    def versions(self) -> dict[str, str]:
        """Returns the versions of what runs the model."""
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    @torch.inference_mode()
    def decode(self, batch: list[Ids]) -> list[Ids]:
        """Decodes one batch."""
        source = torch.full((len(batch), max(map(len, batch))), self._pad)
        for row, ids in zip(source, batch, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        found = self._model.generate(
            input_ids=source,
            attention_mask=(source != self._pad).long(),
            num_beams=self._beam,
            do_sample=False,
            length_penalty=self._work.decoding["length_penalty"],
            max_new_tokens=self._work.limit(batch),
        )
        return [self._work.ended(ids) for ids in found[:, 1:].tolist()]  # Without the start.
