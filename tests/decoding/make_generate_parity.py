"""Makes generate_parity.npz: what `generate` of Hugging Face finds with a model of random logits.

    python tests/decoding/make_generate_parity.py

It needs torch and transformers; the arrays were made with torch 2.13.0+cpu and transformers 5.24.0.
"""

from pathlib import Path

import numpy as np
import torch
import transformers
from transformers.modeling_outputs import CausalLMOutput

SENTENCES, LENGTH, VOCABULARY_SIZE = 40, 8, 6
PAD, START, END = 0, 1, 2
SETTINGS = [
    (beam_size, early_stopping, length_penalty)
    for beam_size in (1, 2, 4)
    for early_stopping in (False, True)
    for length_penalty in (0.0, 0.6, 1.0, 2.0)
    if beam_size > 1 or (early_stopping and length_penalty == 1)
]


class TableModel(transformers.PreTrainedModel, transformers.GenerationMixin):
    """Logits from a table by sentence, position and newest token."""

    config_class = transformers.PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config, table):
        super().__init__(config)
        self.table = torch.nn.Parameter(torch.from_numpy(table))

    def prepare_inputs_for_generation(self, input_ids, sentence=None, **others):
        return {"input_ids": input_ids, "sentence": sentence}

    def forward(self, input_ids, sentence, **others):
        place = input_ids.shape[1] - 1
        return CausalLMOutput(logits=self.table[sentence, place, input_ids[:, -1]][:, None])


def main() -> None:
    """Writes the table of logits and, for each setting, the ids and scores."""
    random = np.random.default_rng(3)
    shape = (SENTENCES, LENGTH, VOCABULARY_SIZE, VOCABULARY_SIZE)
    table = (1.5 * random.normal(size=shape)).astype("float16")
    model = TableModel(
        transformers.PretrainedConfig(vocab_size=VOCABULARY_SIZE, is_encoder_decoder=False),
        table.astype("float32"),
    )
    arrays = {"table": table}
    for beam_size, early_stopping, length_penalty in SETTINGS:
        found = model.generate(
            torch.full((SENTENCES, 1), START),
            sentence=torch.arange(SENTENCES),
            generation_config=transformers.GenerationConfig(
                num_beams=beam_size,
                num_return_sequences=beam_size,
                early_stopping=early_stopping if beam_size > 1 else None,
                length_penalty=length_penalty if beam_size > 1 else None,
                do_sample=False,
                use_cache=False,
                max_length=LENGTH + 1,
                pad_token_id=PAD,
                bos_token_id=START,
                eos_token_id=END,
                forced_eos_token_id=END,
                bad_words_ids=[[PAD], [START]],
                return_dict_in_generate=True,
                output_scores=True,
            ),
        )
        ids = found.sequences[:, 1:].numpy().astype("int8")
        ids[np.cumsum(ids == END, axis=1) > (ids == END)] = PAD  # It fills up with the end token.
        ids = np.pad(ids, [(0, 0), (0, LENGTH - ids.shape[1])])
        name = f"{beam_size}_{early_stopping}_{length_penalty}"
        arrays[f"ids_{name}"] = ids.reshape(SENTENCES, beam_size, LENGTH)
        if beam_size > 1:
            arrays[f"scores_{name}"] = found.sequences_scores.numpy().reshape(SENTENCES, beam_size)
    np.savez_compressed(Path(__file__).parent / "generate_parity.npz", **arrays)


if __name__ == "__main__":
    main()
