"""Images and their classes for the experiments on the vision Transformer; nothing is downloaded.

`digits`: scikit-learn's handwritten digits. `shapes` and `textures`: drawn here, by a seed.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from training.claims.tasks import Split
from training.image_classification import images

SHAPES = ("disc", "square", "triangle", "plus", "cross", "ring")
TEXTURES = ("horizontal stripes", "vertical stripes", "checks", "dots")


@dataclasses.dataclass(frozen=True)
class ImageTask:
    """Training and test images; inputs float32 `[N, h, w, 1]` in [-1, 1], labels int32 `[N]`."""

    train: Split
    test: Split
    num_classes: int

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.train.inputs.shape[1]


@functools.cache
def digits(image_size: int = 16, border: int = 0) -> ImageTask:
    """Reads scikit-learn's digits: 1,438 for training and 359 for the test, the same for all seeds.

    Args:
        image_size: Height and width of a digit, in pixels; the originals have 8.
        border: Pixels of background added on each side.
    """
    parts = images.load("digits", image_size, 1)
    splits = []
    for part in (parts.train + parts.validation, parts.test):
        pixels = part.pixels.astype("float32") / 127.5 - 1
        sides = ((0, 0), (border, border), (border, border), (0, 0))
        splits.append(Split(np.pad(pixels, sides, constant_values=-1.0), part.labels))
    return ImageTask(*splits, len(parts.classes))


@functools.cache
def shapes(image_size: int = 16, train: int = 3000, test: int = 600) -> ImageTask:
    """Draws one shape per image: `SHAPES` of 7 pixels, at any place, any brightness, with noise."""
    return _drawn(draw_shape, len(SHAPES), image_size, train, test)


@functools.cache
def textures(image_size: int = 16, train: int = 3000, test: int = 600) -> ImageTask:
    """Draws one texture per image: `TEXTURES` with a period of 4 pixels, shifted, with noise."""
    return _drawn(draw_texture, len(TEXTURES), image_size, train, test)


def draw_shape(kind: int, image_size: int, random: np.random.Generator) -> np.ndarray:
    """Draws a shape, 1 on 0: float array `[image_size, image_size]`."""
    radius = 3
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(rows, columns)
    forms = {
        "disc": distance <= radius + 0.3,
        "square": np.maximum(abs(rows), abs(columns)) <= radius - 0.5,
        "triangle": 2 * abs(columns) <= rows + radius,
        "plus": np.minimum(abs(rows), abs(columns)) <= 0.5,
        "cross": abs(abs(rows) - abs(columns)) <= 0.5,
        "ring": abs(distance - radius + 0.3) <= 0.7,
    }
    canvas = np.zeros((image_size, image_size))
    top, left = random.integers(0, image_size - 2 * radius, size=2)
    canvas[top : top + 2 * radius + 1, left : left + 2 * radius + 1] = forms[SHAPES[kind]]
    return canvas


def draw_texture(kind: int, image_size: int, random: np.random.Generator) -> np.ndarray:
    """Draws a texture, 1 on 0: float array `[image_size, image_size]`."""
    rows, columns = np.indices((image_size, image_size)) + random.integers(0, 4, size=(2, 1, 1))
    high, right = rows % 4 < 2, columns % 4 < 2
    forms = {
        "horizontal stripes": high,
        "vertical stripes": right,
        "checks": high ^ right,
        "dots": high & right,
    }
    return forms[TEXTURES[kind]].astype(float)


def _drawn(
    draw: Callable[[int, int, np.random.Generator], np.ndarray],
    num_classes: int,
    image_size: int,
    train: int,
    test: int,
) -> ImageTask:
    random = np.random.default_rng(0)
    labels = random.integers(0, num_classes, size=train + test).astype("int32")
    drawn = np.stack([draw(kind, image_size, random) for kind in labels])
    contrast = random.uniform(0.5, 1.5, size=(len(drawn), 1, 1))
    noise = random.normal(0, 0.25, size=drawn.shape)
    pixels = np.clip(contrast * drawn - 0.5 + noise, -1, 1).astype("float32")[..., None]
    return ImageTask(
        Split(pixels[:train], labels[:train]), Split(pixels[train:], labels[train:]), num_classes
    )


def shifted_images(pixels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Moves images `[N, h, w, C]` by whole pixels; what leaves on one side enters on the other."""
    return np.roll(pixels, (down, right), axis=(1, 2))


def shuffled_patches(pixels: np.ndarray, patch_size: int, order: np.ndarray) -> np.ndarray:
    """Puts patch `order[..., i]` at the place of patch i.

    Args:
        pixels: Images `[N, h, w, C]`.
        patch_size: Height and width of a patch.
        order: Permutation of the patches, `[P]` for all images or `[N, P]`.
    """
    count, height, width, channels = pixels.shape
    rows, columns = height // patch_size, width // patch_size
    grid = pixels.reshape(count, rows, patch_size, columns, patch_size, channels)
    patches = grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, rows * columns, -1)
    order = np.broadcast_to(order, (count, rows * columns))
    moved = np.take_along_axis(patches, order[:, :, None], axis=1)
    grid = moved.reshape(count, rows, columns, patch_size, patch_size, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(pixels.shape)
