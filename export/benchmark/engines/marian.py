"""Hugging Face's MarianMTModel, on our weights."""

import json
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
        self._model = transformers.MarianMTModel.from_pretrained(work.folder / "hf").eval()
        # The special ids alone: no engine is told to forbid any token.
        names = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
        ids = {name: getattr(self._model.config, name) for name in names}
        self._model.generation_config = transformers.GenerationConfig(**ids)
        self._pad = ids["pad_token_id"]
        self._theirs = their_ids(work)
        self._ours = {theirs: ours for ours, theirs in enumerate(self._theirs)}

    def versions(self) -> dict[str, str]:
        """Returns the versions of what runs the model."""
        return {"torch": torch.__version__, "transformers": transformers.__version__}

    @torch.inference_mode()
    def decode(self, batch: list[Ids]) -> list[Ids]:
        """Decodes one batch."""
        source = torch.full((len(batch), max(map(len, batch))), self._pad)
        for row, ids in zip(source, batch, strict=True):
            row[: len(ids)] = torch.tensor([self._theirs[i] for i in ids])
        found = self._model.generate(
            input_ids=source,
            attention_mask=(source != self._pad).long(),
            num_beams=self._beam,
            do_sample=False,
            length_penalty=self._work.decoding["length_penalty"],
            max_new_tokens=self._work.limit(batch),
        )
        rows = found[:, 1:].tolist()  # Without the start.
        return [self._work.ended([self._ours[i] for i in row]) for row in rows]


def their_ids(work: Workload) -> list[int]:
    """Returns their id of each of ours; the start is their padding, and ours is behind the end."""
    theirs, ours = (
        json.loads((work.folder / name).read_text(encoding="utf-8"))
        for name in ("hf/vocab.json", "ct2.float32/shared_vocabulary.json")
    )
    names = {"pad": "<pad>", "unknown": "<unk>", "start": "<pad>", "end": "</s>"}
    special = {work.special[name]: theirs[text] for name, text in names.items()}
    return [special[i] if i in special else theirs[piece] for i, piece in enumerate(ours)]
