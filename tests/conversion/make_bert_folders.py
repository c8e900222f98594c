"""Writes the folders of BERT models with drawn weights, and what their libraries compute.

    python tests/conversion/make_bert_folders.py

It ran with transformers 5.24.0, sentence-transformers 6.2.0 and PyTorch 2.13.0, none of which the
tests need. The folders are written by `save_pretrained` and `save` themselves.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
)

FOLDER = Path(__file__).parent / "bert"
TEXTS = [
    "Two dogs are running.",
    "A cat sleeps!",  # In the masked language model's text the cat is masked.
    "",
    "Zwei Hunde laufen über die Straße, café 東京.",
    "unbelievably " + "good dogs and cats are running and " * 6,
    "two cats are running and two dogs are running and the cat",
]
PAIRS = [
    "The dogs run.",
    "a cat",
    "two",
    "",
    "Cats and dogs sleep, and dogs run.",
    "the cat and the dogs sleep and two cats run and die",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "two dogs are running a cat sleep cats the run and die good zwei hunde un believ straße cafe"
)
PARTS = [
    "s",
    "##s",
    "##ing",
    "##able",
    "##ably",
    "##ly",
    "##de",
    "##fen",
    "##en",
    "##er",
    "lau",
    "uber",
    "東",
    "京",
]
LENGTH = 24


def vocabulary() -> list[str]:
    """Returns special pieces, letters at the start and inside of words, marks and words."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*SPECIAL, *letters, *(f"##{each}" for each in letters), *".,!?[]", *WORDS.split()]
    return list(dict.fromkeys([*pieces, *PARTS]))


def sizes(**options: object) -> BertConfig:
    """Returns the configuration of a small model; the options differ from BERT's defaults."""
    torch.manual_seed(7)
    return BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=LENGTH,
        **options,
    )


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """Draws every weight, so that no bias is 0 and no norm's scale is 1."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn_like(weight) * (0.3 if weight.ndim == 1 else 0.25)
            weight.copy_(1 + noise if name.endswith("LayerNorm.weight") else noise)
    return model.eval()


def write(model: torch.nn.Module, name: str, tokenizer: BertTokenizer) -> dict[str, np.ndarray]:
    """Writes a folder; returns the ids of the texts and pairs, and the model's outputs for them."""
    texts = [text.replace("cat", "[MASK]") for text in TEXTS] if name == "masked" else TEXTS
    drawn(model).save_pretrained(FOLDER / name)
    tokenizer.save_pretrained(FOLDER / name)
    arrays = {}
    for kind, second in (("texts", None), ("pairs", PAIRS)):
        inputs = tokenizer(
            texts, second, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        with torch.no_grad():
            outputs = model(**inputs)[0].numpy()
        arrays |= {
            f"{kind}_ids": inputs["input_ids"].numpy().astype("int32"),
            f"{kind}_types": inputs["token_type_ids"].numpy().astype("int32"),
            f"{kind}_outputs": outputs,
        }
    return {f"{name}_{key}": array for key, array in arrays.items()}


def main() -> None:
    """Writes the folders and the arrays."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    (FOLDER / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(str(FOLDER / "vocab.txt"), model_max_length=LENGTH)
    arrays = write(BertModel(sizes()), "model", tokenizer)
    arrays |= write(BertForMaskedLM(sizes(hidden_act="gelu_new")), "masked", tokenizer)
    labels = {0: "bad", 1: "good", 2: "neither"}
    classifier = BertForSequenceClassification(
        sizes(id2label=labels, hidden_act="relu", layer_norm_eps=1e-5)
    )
    arrays |= write(classifier, "classifier", tokenizer)
    (FOLDER / "vocab.txt").unlink()
    encoder = Transformer(str(FOLDER / "model"), max_seq_length=12)
    for pooling in ("mean", "cls", "max"):
        modules = [encoder, Pooling(16, pooling_mode=pooling)]
        if pooling != "max":
            modules.append(Normalize())
        sentences = SentenceTransformer(modules=modules, device="cpu")
        sentences.save(str(FOLDER / f"sentence_{pooling}"), create_model_card=False)
        arrays[f"sentence_{pooling}"] = sentences.encode(TEXTS)
    np.savez_compressed(FOLDER / "expected.npz", texts=TEXTS, pairs=PAIRS, **arrays)


if __name__ == "__main__":
    main()
