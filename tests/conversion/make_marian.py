"""Writes marian.tar.xz: small Marian folders, and what transformers makes of them.

Needs torch 2.13.0, transformers 5.24.0 and sentencepiece 0.2.3, which the tests do not:

    python tests/conversion/make_marian.py

Folders: `relu`, safetensors in shards, generation_config.json, the end is not id 0, two language
tokens, another number of layers on each side; `swish`, an old pytorch_model.bin of float16 with
the extra tensors that old files have, the settings of `generate` in config.json. Their weights are
drawn, and then trained for some seconds on made-up text: texts of weights that are only drawn do
not end. `marian.npz` holds, for each, sources and targets with their logits, and 100 lines with the
texts of `generate`: greedy, beam 4 with either stop rule. All of these texts end before
`max_length`, so that nothing depends on how the limit ends a text.
"""

import io
import json
import random
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

LANGUAGES = [">>deu<<", ">>por<<"]
MAX_LENGTH = 40
STEPS = 450
SOURCE, TARGET = ("bdgklmnprst", "aeiou"), ("бвгдклмн", "аеио")  # Consonants and vowels.


def make_lines(consonants: str, vowels: str, count: int) -> list[str]:
    """Makes lines of made-up words; those of other letters are their translations."""
    draw = random.Random(1)
    syllables = [c + v for c in consonants for v in vowels]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(50)]
    ends = [".", ".", "?", "!"]
    return [
        " ".join(draw.choices(words, k=draw.randint(1, 6))) + draw.choice(ends)
        for _ in range(count)
    ]


def train_pieces(lines: list[str], path: Path) -> list[str]:
    """Trains a SentencePiece model as OPUS-MT does; returns its pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=110,
        hard_vocab_limit=False,
        minloglevel=3,
        num_threads=1,
    )
    path.write_bytes(model.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [processor.id_to_piece(i) for i in range(3, processor.vocab_size())]


def make_tokenizer(folder: Path, *, end_first: bool, languages: list[str]) -> MarianTokenizer:
    """Writes source.spm, target.spm and vocab.json; leaves two pieces out of the table."""
    sides = make_lines(*SOURCE, 400), [*make_lines(*TARGET, 400), *["Ramel 12 ñ."] * 5]
    pieces: list[str] = []
    for lines, name in zip(sides, ("source.spm", "target.spm"), strict=True):
        pieces += train_pieces(lines, folder / name)[2:]
    pieces = sorted({*pieces, *languages})
    random.Random(3).shuffle(pieces)
    first = ["</s>", "<unk>"]
    ordered = [*first, *pieces] if end_first else [*pieces[:30], *first, *pieces[30:]]
    table = {piece: i for i, piece in enumerate([*ordered, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(table, ensure_ascii=False))
    languages_of = {"source_lang": "en", "target_lang": "ru"}
    (folder / "tokenizer_config.json").write_text(json.dumps(languages_of))
    return MarianTokenizer.from_pretrained(folder)


def make_model(tokenizer: MarianTokenizer, seed: int, **options) -> MarianMTModel:
    """Makes a model whose outputs are not flat, and end."""
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = MarianConfig(
        vocab_size=tokenizer.vocab_size,
        d_model=32,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        scale_embedding=True,
        max_position_embeddings=64,
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
        forced_eos_token_id=end,
        **options,
    )
    torch.manual_seed(seed)
    model = MarianMTModel(config).eval()
    sides = make_lines(*SOURCE, 400), make_lines(*TARGET, 400)
    with torch.no_grad():
        model.model.shared.weight[pad] = (
            0.1  # The start. Zeros in OPUS-MT; here it must not be lost.
        )
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    model.train()
    for step in range(STEPS):
        batch = [side[step * 32 % 384 :][:32] for side in sides]
        inputs = tokenizer(batch[0], text_target=batch[1], return_tensors="pt", padding=True)
        inputs["labels"][inputs["labels"] == pad] = -100
        loss = model(**inputs).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("loss", loss.item(), flush=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.final_logits_bias.copy_(0.3 * torch.randn(1, config.vocab_size, generator=generator))
    return model.eval()


def write_old(model: MarianMTModel, folder: Path, generation: dict) -> None:
    """Writes a folder as transformers 4.0 did: one .bin with copies of the table."""
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    table = state["model.shared.weight"]
    for name in (
        "model.encoder.embed_tokens.weight",
        "model.decoder.embed_tokens.weight",
        "lm_head.weight",
    ):
        state[name] = table
    for side in ("encoder", "decoder"):
        positions = getattr(model.model, side).embed_positions.weight
        state[f"model.{side}.embed_positions.weight"] = positions.detach().float()  # Else rounded.
    torch.save(state, folder / "pytorch_model.bin")
    config = {
        **model.config.to_dict(),
        **generation,
        "bos_token_id": 0,
        "normalize_before": False,
        "normalize_embedding": False,
        "add_final_layer_norm": False,
        "add_bias_logits": False,
        "static_position_embeddings": True,
        "num_hidden_layers": 1,
        "_num_labels": 3,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "classif_dropout": 0.0,
    }
    config = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def measure(folder: Path, languages: list[str]) -> dict[str, np.ndarray]:
    """Returns logits and texts of a folder, as transformers loads it."""
    tokenizer = MarianTokenizer.from_pretrained(folder)
    model = MarianMTModel.from_pretrained(folder, dtype=torch.float32).eval()
    lines = make_lines(*SOURCE, 600)[400:]
    draw = random.Random(5)
    lines = [
        f"{draw.choice(languages)} {line}" if languages and draw.random() < 0.7 else line
        for line in lines
    ]
    lines = [
        line + draw.choice(["", "", "", " ñ", " 日本", " \N{CYRILLIC SMALL LETTER BE}12"])
        for line in lines
    ]
    found, keep = {}, np.ones(len(lines), bool)
    searches = {
        "greedy": {"num_beams": 1},
        "beam": {"num_beams": 4, "early_stopping": True},
        "beam_late": {"num_beams": 4, "early_stopping": False},
    }
    for name, options in searches.items():
        texts = []
        for i in range(0, len(lines), 50):
            inputs = tokenizer(lines[i : i + 50], return_tensors="pt", padding=True)
            with torch.no_grad():
                ids = model.generate(**inputs, **options, max_length=MAX_LENGTH)
            full = torch.nn.functional.pad(
                ids, (0, MAX_LENGTH - ids.shape[1]), value=model.config.pad_token_id
            )
            keep[i : i + 50] &= (full[:, -1] == model.config.pad_token_id).numpy()
            texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
        print(folder.name, name, flush=True)
        found[name] = texts
    kept = np.flatnonzero(keep)[:100]
    print(folder.name, keep.sum(), len({found["greedy"][i] for i in kept}), found["beam"][kept[0]])
    for a, b in (("greedy", "beam"), ("beam", "beam_late")):
        print(a, b, sum(found[a][i] != found[b][i] for i in kept))
    print("lengths", np.percentile([len(found["greedy"][i].split()) for i in kept], [0, 50, 100]))
    arrays = {name: np.array([texts[i] for i in kept]) for name, texts in found.items()}
    arrays["lines"] = np.array([lines[i] for i in kept])
    batch = tokenizer(
        lines[:6],
        text_target=[found["beam"][i] for i in range(6)],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        arrays["logits"] = model(**batch).logits.numpy()
    arrays["targets"] = np.array([found["beam"][i] for i in range(6)])
    arrays["label_ids"] = batch["labels"].numpy()
    arrays["logit_lines"] = np.array(lines[:6])
    return arrays


def main() -> None:
    """Writes marian.tar.xz beside this file."""
    torch.set_num_threads(1)
    generation = {"num_beams": 4, "max_length": MAX_LENGTH}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("relu", "swish"):
            (root / folder).mkdir()
        tokenizer = make_tokenizer(root / "relu", end_first=False, languages=LANGUAGES)
        model = make_model(
            tokenizer, 1, activation_function="relu", encoder_layers=2, decoder_layers=1
        )
        model.generation_config.update(
            **generation, bad_words_ids=[[tokenizer.pad_token_id]], renormalize_logits=True
        )
        model.save_pretrained(root / "relu", max_shard_size="60KB")
        tokenizer = make_tokenizer(root / "swish", end_first=True, languages=[])
        model = make_model(
            tokenizer, 2, activation_function="swish", encoder_layers=1, decoder_layers=2
        )
        write_old(
            model, root / "swish", {**generation, "bad_words_ids": [[tokenizer.pad_token_id]]}
        )
        arrays = {
            f"{folder}/{key}": value
            for folder, languages in (("relu", LANGUAGES), ("swish", []))
            for key, value in measure(root / folder, languages).items()
        }
        np.savez_compressed(root / "marian.npz", **arrays)
        output = Path(__file__).with_name("marian.tar.xz")
        with tarfile.open(output, "w:xz") as archive:
            for path in sorted(root.rglob("*")):
                if path.is_file():
                    archive.add(path, path.relative_to(root), filter=_plain)
        print(output, output.stat().st_size)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
    return member


if __name__ == "__main__":
    main()
