"""Runs a Marian folder with transformers, and as CTranslate2's own converter turns it into another.

    python tests/conversion/check_huggingface.py FOLDER SOURCE EXPECTED

in an environment with torch, transformers, sentencepiece and ctranslate2 (that of the benchmark,
`.peers/vt`). EXPECTED has what the run itself translates SOURCE into:
`ktransformer translate RUN < SOURCE > EXPECTED`. Prints how many lines are the same; the exit
status is 1 unless all are. Written for transformers 5.24 and ctranslate2 4.8.5.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ctranslate2
import torch
from ctranslate2.converters import TransformersConverter
from transformers import MarianMTModel, MarianTokenizer

BATCH = 20


def main(folder: str, source: str, expected: str) -> int:
    """Compares both with the expected lines."""
    texts, wanted = (
        Path(path).read_text(encoding="utf-8").splitlines() for path in (source, expected)
    )
    same = []
    for name, translate in (("generate", generate), ("CTranslate2's converter", convert)):
        found = list(translate(folder, texts))
        same.append(sum(map(str.__eq__, found, wanted)))
        print(f"{name}: {same[-1]} of {len(texts)} lines are the same")
    return 0 if min(same) == len(texts) else 1


def generate(folder: str, texts: list[str]) -> Iterator[str]:
    """Translates with MarianMTModel and MarianTokenizer."""
    model, tokenizer = (
        MarianMTModel.from_pretrained(folder),
        MarianTokenizer.from_pretrained(folder),
    )
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(texts[start : start + BATCH], return_tensors="pt", padding=True)
        with torch.no_grad():
            ids = model.eval().generate(**batch)
        yield from tokenizer.batch_decode(ids, skip_special_tokens=True)


def convert(folder: str, texts: list[str]) -> Iterator[str]:
    """Converts the folder and translates with the search's settings that it has."""
    tokenizer = MarianTokenizer.from_pretrained(folder)
    settings = MarianMTModel.from_pretrained(folder).generation_config
    with tempfile.TemporaryDirectory() as output:
        TransformersConverter(folder).convert(output, force=True)
        results = ctranslate2.Translator(output).translate_batch(
            [tokenizer.convert_ids_to_tokens(tokenizer.encode(text)) for text in texts],
            beam_size=settings.num_beams,
            length_penalty=settings.length_penalty,
            min_decoding_length=0,
            disable_unk=True,
        )
    for result in results:
        ids = tokenizer.convert_tokens_to_ids(result.hypotheses[0])
        yield tokenizer.decode(ids, skip_special_tokens=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
