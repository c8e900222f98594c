"""KerasHub's BartSeq2SeqLM, `generate` under XLA, with its own random weights.

What of our model it cannot be given: it has gelu for relu, learned positions, and a norm behind the
embeddings; the sizes, and so nearly all of the work, are the same. Its tokens mean nothing.
"""

import os

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from export.benchmark.workload import Ids, Workload

PAD_TO = 16  # XLA compiles once a shape: sources are padded to a multiple of so many tokens.


class Engine:
    """Decodes exactly `work.forced_tokens` tokens a sentence.

    Args:
        work: What is decoded.
        beam: K.
    """

    def __init__(self, work: Workload, beam: int) -> None:
        if work.forced_tokens is None:
            raise ValueError("KerasHub has no trained weights here, so its sentences never end.")
        sizes = work.sizes
        backbone = keras_hub.models.BartBackbone(
            sizes["vocabulary_size"],
            sizes["num_layers"],
            sizes["num_heads"],
            sizes["d_model"],
            sizes["hidden_dim"],
            dropout=0.0,
            max_sequence_length=sizes["max_length"],
        )
        samplers = keras_hub.samplers
        sampler = samplers.GreedySampler() if beam == 1 else samplers.BeamSampler(num_beams=beam)
        self._tokens = work.forced_tokens
        self._model = keras_hub.models.BartSeq2SeqLM(backbone=backbone, preprocessor=None)
        self._model.compile(sampler=sampler, jit_compile=True)

    def versions(self) -> dict[str, str]:
        """Returns the versions of what runs the model."""
        return {
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "keras-hub": keras_hub.__version__,
        }

    def decode(self, batch: list[Ids]) -> list[Ids]:
        """Decodes one batch."""
        rows, length = len(batch), -(-max(map(len, batch)) // PAD_TO) * PAD_TO
        source = np.zeros((rows, length), np.int32)
        mask = np.zeros((rows, length), np.int32)
        for i, ids in enumerate(batch):
            source[i, : len(ids)], mask[i, : len(ids)] = ids, 1
        target_mask = np.zeros((rows, self._tokens + 1), np.int32)
        target_mask[:, 0] = 1  # The start token; what follows is generated.
        inputs = {
            "encoder_token_ids": source,
            "encoder_padding_mask": mask,
            "decoder_token_ids": np.zeros_like(target_mask),
            "decoder_padding_mask": target_mask,
        }
        found = self._model.generate(inputs, stop_token_ids=None)
        ids: list[Ids] = np.asarray(found["decoder_token_ids"])[:, 1:].tolist()
        return ids
