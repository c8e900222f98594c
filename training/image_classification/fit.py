"""What a training can set, and the training itself: one model from one seed."""

import dataclasses
import logging
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ktransformer.config.checks import check, check_range
from ktransformer.errors import InputError
from ktransformer.fitting import StopAtNaN
from ktransformer.models import VisionTransformer
from ktransformer.text.without_autotune import without_autotune
from training.image_classification.images import Images
from training.settings import RecipeSettings

_log = logging.getLogger("ktransformer.image_classification")


@dataclasses.dataclass(frozen=True)
class Settings(RecipeSettings):
    """Sizes of the model, augmentation and training."""

    image_size: int = 32
    """Height and width that every image gets, in pixels; a multiple of patch_size."""
    channels: int = 3
    """1 for grey, 3 for red, green and blue."""
    patch_size: int = 4
    """Height and width of a patch, in pixels."""
    num_layers: int = 6
    """Blocks."""
    d_model: int = 192
    """Width; a multiple of num_heads."""
    num_heads: int = 3
    """Attention heads."""
    hidden_dim: int = 384
    """Features of the feed-forward networks' inner layer."""
    dropout: float = 0.1
    """Dropout on patches and on the sublayers' outputs, in [0, 1)."""
    pooling: str = "class_token"
    """class_token or mean."""
    flip: bool = True
    """Whether a mirrored image is as good as the image: not so for letters and digits."""
    shift: float = 0.1
    """The most an image is shifted, as a share of its sides."""
    rotation: float = 10.0
    """The most an image is turned, in degrees."""
    zoom: float = 0.1
    """The most an image grows or shrinks, as a share of its sides."""
    epochs: int = 100
    """Passes over the images."""
    batch_size: int = 128
    """Images an update."""
    learning_rate: float = 1e-3
    """Peak, after the warm-up; a cosine brings it down to 0."""
    warmup_epochs: int = 5
    """Epochs until the peak."""
    weight_decay: float = 0.05
    """AdamW's, per update and times the learning rate."""
    label_smoothing: float = 0.1
    """Probability mass spread over the classes, in [0, 1)."""
    refit: bool = False
    """Whether, after the training that shows how good the settings are, the model is trained
    anew on the training and the validation images together: for small data."""

    split_seed: int = 0
    """Seed of which images are held out."""

    def __post_init__(self) -> None:
        for name in ("image_size", "epochs", "batch_size"):
            check_range(self, name, least=1)
        for name in ("shift", "zoom", "label_smoothing"):
            check_range(self, name, least=0, most=1, open_above=True)
        for name in ("warmup_epochs", "weight_decay", "split_seed"):
            check_range(self, name, least=0)
        check_range(self, "rotation", least=0, most=180)
        check_range(self, "learning_rate", least=0, open_below=True)
        check(self.channels in (1, 3), "channels must be 1 or 3", channels=self.channels)
        check(
            self.warmup_epochs < self.epochs,
            "warmup_epochs must be below epochs",
            warmup_epochs=self.warmup_epochs,
            epochs=self.epochs,
        )


def make_model(settings: Settings, num_classes: int) -> VisionTransformer:
    """Creates the model, with random weights.

    Raises:
        InputError: The sizes do not fit each other.
    """
    names = ("image_size", "patch_size", "channels", "num_layers", "d_model", "num_heads")
    sizes = {name: getattr(settings, name) for name in (*names, "hidden_dim", "dropout", "pooling")}
    try:
        model = VisionTransformer(num_classes, **sizes)
        model.build()
    except ValueError as error:
        raise InputError(str(error)) from error
    return model


def fit(
    settings: Settings,
    num_classes: int,
    train: Images,
    validation: Images | None = None,
    *,
    seed: int,
) -> tuple[VisionTransformer, dict[str, Any]]:
    """Trains one model.

    Args:
        settings: What to train, and how.
        num_classes: Number of classes.
        train: The images to train on.
        validation: Images to watch the training with; nothing is chosen by them here.
        seed: Seed of weights, dropout, augmentation and order.

    Returns:
        The model, and by epoch `loss` and `accuracy`, with validation `val_loss` and
        `val_accuracy` too.
    """
    keras.utils.set_random_seed(seed)
    model = make_model(settings, num_classes)
    steps = -(-len(train) // settings.batch_size)
    warmup, updates = settings.warmup_epochs * steps, settings.epochs * steps
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else settings.learning_rate,
        decay_steps=updates - warmup,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, clipnorm=1.0)
    # Norms, biases and the vectors that are added to the patches stay where they are useful.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "embedding"])
    model.compile(
        optimizer,
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=settings.label_smoothing
        ),
        metrics=["accuracy"],
    )
    history = model.fit(
        training_batches(train, settings, num_classes, seed),
        validation_data=None if validation is None else labelled(validation, num_classes),
        epochs=settings.epochs,
        shuffle=False,  # The batches are.
        callbacks=[StopAtNaN(), _Progress(settings.epochs)],
        verbose=0,
    )
    return model, history.history


def training_batches(
    images: Images, settings: Settings, num_classes: int, seed: int
) -> tf.data.Dataset:
    """Makes batches of augmented images in a new order every epoch."""
    augment = augmentation(settings, seed)
    inputs, labels = labelled(images, num_classes)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels))
    dataset = dataset.shuffle(len(images), seed=seed).batch(settings.batch_size)
    return without_autotune(dataset.map(lambda x, y: (augment(x, training=True), y)).prefetch(2))


def augmentation(settings: Settings, seed: int) -> keras.Sequential:
    """Makes the layers that change training images, in ways that leave their class alone."""
    turn, shift, zoom = settings.rotation / 360, settings.shift, settings.zoom
    edge = {"fill_mode": "nearest"}
    # A seed each, or a large turn would always come with a large shift.
    layers = [
        keras.layers.RandomRotation(turn, seed=4 * seed, **edge),
        keras.layers.RandomTranslation(shift, shift, seed=4 * seed + 1, **edge),
        # Height and width change apart, too.
        keras.layers.RandomZoom((-zoom, zoom), (-zoom, zoom), seed=4 * seed + 2, **edge),
    ]
    if settings.flip:
        layers.append(keras.layers.RandomFlip("horizontal", seed=4 * seed + 3))
    return keras.Sequential(layers)


def labelled(images: Images, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the model's inputs and one-hot labels `[B, num_classes]`."""
    return scaled(images.pixels), np.eye(num_classes, dtype="float32")[images.labels]


def scaled(pixels: np.ndarray) -> np.ndarray:
    """Scales pixels from [0, 255] to the model's [-1, 1]."""
    return pixels.astype("float32") / 127.5 - 1


def accuracy(model: VisionTransformer, images: Images) -> float:
    """Returns the share of images whose most probable class is the right one."""
    logits = model.predict(scaled(images.pixels), batch_size=256, verbose=0)
    return float(np.mean(logits.argmax(axis=-1) == images.labels))


class _Progress(keras.callbacks.Callback):
    """Logs every epoch in a line."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        values = "  ".join(f"{name} {value:.4f}" for name, value in logs.items())
        seconds = time.monotonic() - self.start
        _log.info("epoch %d/%d  %s  %.1f s", epoch + 1, self.epochs, values, seconds)
