"""Reads preprocessor_config.json: how a published classifier prepares its images."""

from typing import Any, NamedTuple

import numpy as np

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.settings import Settings
from ktransformer.errors import brief
from ktransformer.tasks import Resizing

FILE = "preprocessor_config.json"
_BILINEAR, _BICUBIC = 2, 3  # Pillow's numbers.
_INTERPOLATIONS = {_BILINEAR: "bilinear", _BICUBIC: "bicubic"}
_PROCESSORS = {
    f"{family}{kind}": family
    for family in ("ViT", "DeiT")
    for kind in ("FeatureExtractor", "ImageProcessor", "ImageProcessorFast", "ImageProcessorPil")
}
_HARMLESS = (
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "feature_extractor_type",
    "image_processor_type",
    "image_seq_length",
    "input_data_format",
    "processor_class",
    "return_tensors",
)


class Preprocessing(NamedTuple):
    """What becomes of an image: resized, then `(pixel * factor - mean) / deviation`.

    Attributes:
        resizing: How it gets the model's size.
        factor: Of a pixel in [0, 255].
        mean: Of each channel, `[C]`.
        deviation: Of each channel, `[C]`.
    """

    resizing: Resizing
    factor: float
    mean: np.ndarray
    deviation: np.ndarray


def read_preprocessing(
    folder: PublishedFolder, family: str, options: dict[str, Any], problems: Problems
) -> Preprocessing:
    """Reads how the images of a folder are prepared; what has no counterpart becomes a problem.

    Args:
        folder: The folder.
        family: `vit` or `deit`, whose processor fills in what the file does not name.
        options: The model's `image_size` and `channels`.
        problems: Collects what is wrong.
    """
    values = folder.read_json(FILE)
    if not isinstance(values, dict):
        problems.add(f"it lacks {FILE}, a JSON object that says how images are prepared")
        values = {}
    settings = Settings(values, problems, FILE)
    settings.ignore(*_HARMLESS)
    settings.require("do_pad", False, None, why="images are not padded here")
    settings.require("pad_size", None, why="images are not padded here")
    settings.require("do_resize", True, why="images of every size are taken, and resized")
    kind = values.get("image_processor_type", values.get("feature_extractor_type"))
    if kind is not None and str(kind) not in _PROCESSORS:
        problems.add(f"{FILE} has image_processor_type={brief(kind)}, not one of ViT or DeiT")
    is_deit = family == "deit" if kind is None else _PROCESSORS.get(str(kind)) == "DeiT"
    resizing = _read_resizing(settings, values, is_deit, options["image_size"], problems)
    factor = settings.take_float("rescale_factor", default=1 / 255)
    if not settings.take_bool("do_rescale", default=True):
        factor = 1.0
    mean = _read_numbers(settings, values, "image_mean", options["channels"], problems)
    deviation = _read_numbers(settings, values, "image_std", options["channels"], problems)
    if not settings.take_bool("do_normalize", default=True):
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    elif not deviation.all():
        problems.add(f"{FILE} has image_std={brief(values.get('image_std'))}, which must not be 0")
    settings.finish()
    return Preprocessing(resizing, factor, mean, deviation)


def _read_resizing(
    settings: Settings,
    values: dict[str, Any],
    is_deit: bool,
    image_size: int,
    problems: Problems,
) -> Resizing:
    settings.ignore("resample", "size", "crop_size")  # Read here: numbers or objects.
    resample = values.get("resample", _BICUBIC if is_deit else _BILINEAR)
    if type(resample) is not int or resample not in _INTERPOLATIONS:
        problems.add(
            f"{FILE} has resample={brief(resample)}, which must be {_BILINEAR} (bilinear) or "
            f"{_BICUBIC} (bicubic)"
        )
        resample = _BILINEAR
    size = _read_size(values, "size", (256, 256) if is_deit else (224, 224), problems)
    cut = size
    if settings.take_bool("do_center_crop", default=is_deit):
        cut = _read_size(values, "crop_size", (224, 224), problems)
    if cut != (image_size, image_size) or min(size) < image_size:
        problems.add(
            f"{FILE} makes images of {cut[0]} x {cut[1]} pixels from {size[0]} x {size[1]}, but "
            f"image_size={image_size}"
        )
        size = cut = (image_size, image_size)
    larger = None if size == cut else size
    return Resizing(interpolation=_INTERPOLATIONS[resample], like_pillow=True, size=larger)


def _read_size(
    values: dict[str, Any], name: str, default: tuple[int, int], problems: Problems
) -> tuple[int, int]:
    """Returns a height and a width, of one number or of an object that names both."""
    value = values.get(name)
    if value is None:
        return default
    sides = (value, value)
    if isinstance(value, dict) and value.keys() == {"height", "width"}:
        sides = (value["height"], value["width"])
    if any(type(side) is not int or not 0 < side < 2**16 for side in sides):
        problems.add(f"{FILE} has {name}={brief(value)}, which must be a height and a width")
        return default
    return sides


def _read_numbers(
    settings: Settings, values: dict[str, Any], name: str, channels: int, problems: Problems
) -> np.ndarray:
    """Returns a number for each channel: float64 `[C]`."""
    settings.ignore(name)
    value = values.get(name, [0.5] * channels)
    numbers = value if isinstance(value, list) else [value] * channels
    if len(numbers) != channels or any(type(each) not in (int, float) for each in numbers):
        problems.add(f"{FILE} has {name}={brief(value)}, which must be {channels} numbers")
        return np.full(channels, 0.5)
    return np.array(numbers, "float64")
