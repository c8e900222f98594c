"""Writes the folders in vision/, and what Hugging Face transformers computes with them.

Command (in an environment of its own; none of these is a dependency of this package):

    pip install torch==2.13.0 transformers==5.24.0 "pillow<12" numpy
    python tests/conversion/make_vision.py

Versions: torch 2.13.0, transformers 5.24.0, Pillow 11.3.0, Python 3.11. Weights and images are
drawn from a seed, so that the program writes the same numbers again. Each folder has a random model
of its class, as `save_pretrained` writes it, and the configuration of its image processor: `vit` in
today's form, `deit` with the defaults of its class left out, `teacher` in the form of 2021.

vision.npz holds for each folder `<folder>/pixels`, float32 [B, C, h, w], with their `logits`, and
PNG files of images that need no resizing (`files/0`, ...) and of others (`resized/0`, ...; the last
is a JPEG file), each with its logits under `logits/`; and for `resized` also the images as Pillow
resized and cut them.
"""

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    DeiTConfig,
    DeiTForImageClassification,
    DeiTForImageClassificationWithTeacher,
    DeiTImageProcessorPil,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

FOLDER = Path(__file__).parent / "vision"
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 16,
    "patch_size": 4,
    "id2label": {0: "tench", 1: "goldfish", 2: "great white shark, man-eater"},
}
MODELS = {
    "vit": (ViTForImageClassification, ViTConfig, ViTImageProcessorPil, {"height": 16}),
    "deit": (DeiTForImageClassification, DeiTConfig, DeiTImageProcessorPil, {"height": 20}),
    "teacher": (
        DeiTForImageClassificationWithTeacher,
        DeiTConfig,
        DeiTImageProcessorPil,
        {"height": 20},
    ),
}
OTHER_SIZES = ((37, 25), (24, 61), (9, 12), (120, 97))


def main() -> None:
    generator = np.random.default_rng(2021)
    arrays = {}
    for name, (model_class, config_class, processor_class, size) in MODELS.items():
        model = model_class(config_class(**SIZES)).eval()
        for key, weight in model.named_parameters():
            values = generator.standard_normal(tuple(weight.shape)) * 0.3
            weight.data = torch.from_numpy(values + ("norm" in key and "weight" in key)).float()
        model.save_pretrained(FOLDER / name)
        side = size["height"]
        processor = processor_class(
            size={"height": side, "width": side}, crop_size={"height": 16, "width": 16}
        )
        write_processor(name, processor)

        def run(pixels: np.ndarray, model: torch.nn.Module = model) -> np.ndarray:
            with torch.no_grad():
                return model.double()(torch.from_numpy(pixels).double()).logits.float().numpy()

        pixels = generator.standard_normal((3, 3, 16, 16)).astype("float32")
        arrays[f"{name}/pixels"], arrays[f"{name}/logits"] = pixels, run(pixels)
        fitting = [(side, side)] * 2
        for kind, sides in (("files", fitting), ("resized", OTHER_SIZES)):
            for i, (height, width) in enumerate(sides):
                image = draw(generator, height, width)
                content = encode(image, "JPEG" if (height, width) == OTHER_SIZES[-1] else "PNG")
                image = Image.open(io.BytesIO(content))
                arrays[f"{name}/{kind}/{i}"] = np.frombuffer(content, "uint8")
                prepared = processor(image, return_tensors="np")["pixel_values"]
                arrays[f"{name}/logits/{kind}/{i}"] = run(prepared.astype("float32"))[0]
                if kind == "resized":
                    plain = processor(
                        image, return_tensors="np", do_rescale=False, do_normalize=False
                    )
                    arrays[f"{name}/images/{i}"] = plain["pixel_values"][0].transpose(1, 2, 0)
    np.savez_compressed(FOLDER / "vision.npz", **arrays)


def write_processor(name: str, processor: object) -> None:
    values = json.loads(processor.to_json_string())
    if name == "deit":
        del values["resample"], values["do_center_crop"], values["rescale_factor"]
    if name == "teacher":
        values = {
            "crop_size": 16,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "DeiTFeatureExtractor",
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
            "resample": 3,
            "size": 20,
        }
        processor.image_mean, processor.image_std = values["image_mean"], values["image_std"]
    text = json.dumps(values, indent=2)
    (FOLDER / name / "preprocessor_config.json").write_text(text + "\n")


def draw(generator: np.random.Generator, height: int, width: int) -> Image.Image:
    """Draws an image of waves and noise."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / 5 + y / 7), 127 + 120 * np.cos(x * y / 90)]
    channels = [*waves, generator.uniform(0, 255, (height, width))]
    return Image.fromarray(np.stack(channels, axis=-1).clip(0, 255).astype("uint8"))


def encode(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


if __name__ == "__main__":
    main()
