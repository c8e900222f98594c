"""Writes models.tar.xz: tiny models in every format of commit 8663278, and their outputs.

Command (with a checkout of that commit on PYTHONPATH, whose names it imports):

    python tests/compat/make_models.py FOLDER
    tar -cJf tests/compat/models.tar.xz -C FOLDER .

It holds three runs (version 2), the folders of a masked language model and of an image classifier
(version 1), SavedModels and .tflite files of the three kinds, and answers.json with their outputs.
"""

import json
import sys
from pathlib import Path

import numpy as np
from ktransformer.lite import LiteModel, export_lite
from ktransformer.run import Run, load_run, make_model, save_run
from ktransformer.servables import save_servable

from ktransformer.config import Config
from ktransformer.files import new_folder
from ktransformer.models import MaskedLanguageModel, VisionTransformer
from ktransformer.serving import (
    ImageClassifier,
    MaskFiller,
    SavedModel,
    Translator,
    export_saved_model,
)
from ktransformer.text import Tokenizer

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIZES = {"num_layers": 1, "d_model": 16, "hidden_dim": 24, "num_heads": 2, "max_length": 16}
RUNS = {
    "post_norm": {},
    "pre_norm": {
        "norm_first": True,
        "positions": "learned",
        "tie_embeddings": False,
        "num_decoder_layers": 2,
        "activation": "gelu",
    },
    "interleaved": {"positions": "sinusoidal_interleaved", "scale_embeddings": False},
}
TEXTS = ["one two", "nine", "four zero two seven", ""]
MASKED = ["one <mask> two", "<mask>"]


def draw(model):
    """Builds a model and draws its weights."""
    if not model.built:
        model.build()
    generator = np.random.default_rng(3)
    weights = [generator.normal(0, 0.3, weight.shape) for weight in model.get_weights()]
    model.set_weights([weight.astype("float32") for weight in weights])
    return model


def translations(outputs) -> dict:
    """Returns texts and scores as JSON has them."""
    return {
        "text": [text.decode() for text in np.asarray(outputs["text"])],
        "score": np.asarray(outputs["score"]).tolist(),
    }


def main(folder: Path) -> None:
    """Writes everything."""
    generator = np.random.default_rng(0)
    lines = [" ".join(generator.choice(WORDS, generator.integers(1, 6))) for _ in range(300)]
    digits = ["".join(str(WORDS.index(word)) for word in line.split()) for line in lines]
    tokenizer = Tokenizer.train(lines + digits, vocabulary_size=40)
    answers = {"texts": TEXTS, "masked": MASKED}
    for name, settings in RUNS.items():
        config = Config().replace({**SIZES, **settings, "vocabulary_size": 40, "beam_size": 2})
        model = draw(make_model(config, tokenizer.vocabulary_size))
        path = folder / f"run_{name}"
        save_run(Run(config, tokenizer, model, {"loss": [2.0, 1.0]}), path)
        run = load_run(path)
        translator = Translator(run.model, run.tokenizer, run.config.decoding)
        answers[path.name] = translations(translator.translate(TEXTS))
        if name == "post_norm":
            write_exports(translator, "translator", folder)
            for path, kind in (
                ("translator.tflite", LiteModel),
                ("saved_model_translator", SavedModel),
            ):
                opened = kind(folder / path)
                outputs = opened.run("serving_default", texts=np.array(TEXTS, object))
                answers[path] = translations(outputs)
    tokenizer = Tokenizer.train(lines, vocabulary_size=40, mask=True)
    filler = MaskFiller(
        draw(MaskedLanguageModel(tokenizer.vocabulary_size, **SIZES)), tokenizer, top_k=2
    )
    with new_folder(folder / "masked_language_model") as path:
        save_servable(filler, path)
    fills = filler.fill_texts(MASKED)
    answers["masked_language_model"] = {
        name: fills[name].numpy().tolist() for name in ("ids", "probability")
    }
    sizes = {name: SIZES[name] for name in ("num_layers", "d_model", "hidden_dim", "num_heads")}
    model = draw(VisionTransformer(3, image_size=(8, 12), patch_size=4, **sizes))
    classifier = ImageClassifier(model, ("circle", "square", "star"))
    with new_folder(folder / "image_classifier") as path:
        save_servable(classifier, path)
    images = np.random.default_rng(5).integers(0, 256, (2, 8, 12, 3), np.uint8)
    logits = model(images / 127.5 - 1).numpy()
    answers["image_classifier"] = {"logits": logits.tolist(), "seed": 5}
    write_exports(filler, "filler", folder)
    write_exports(classifier, "classifier", folder)
    text = json.dumps(answers, indent=1, ensure_ascii=False)
    (folder / "answers.json").write_text(text, encoding="utf-8")


def write_exports(servable, name: str, folder: Path) -> None:
    """Writes a SavedModel and a .tflite."""
    export_saved_model(servable, folder / f"saved_model_{name}")
    export_lite(servable, folder / f"{name}.tflite")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
