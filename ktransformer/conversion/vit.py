"""ViT and DeiT: classifiers of images."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ktransformer.conversion.classes import read_classes
from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.image_processor import Preprocessing, read_preprocessing
from ktransformer.conversion.importing import Imported
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.registry import register_family
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.tensors import TensorReader
from ktransformer.conversion.weight_table import (
    Weight,
    check_layers,
    check_shape,
    joined,
    joined_transposed,
    load_weights,
    transposed,
)
from ktransformer.errors import brief
from ktransformer.models import VisionTransformer
from ktransformer.tasks import ImageClassifier

_ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "silu": "silu", "swish": "silu"}
_WITH_TEACHER = "DeiTForImageClassificationWithTeacher"
_ARCHITECTURES = {
    "vit": ("ViTForImageClassification",),
    "deit": ("DeiTForImageClassification", _WITH_TEACHER),
}
_MOST_PIXELS, _MOST_CHANNELS = 2**16, 4  # A side of an image; what a file of an image can have.
_HALF_RANGE = 127.5  # A model here takes pixels / 127.5 - 1.


@register_family("vit")
@register_family("deit")
def convert(folder: PublishedFolder, problems: Problems) -> Imported:
    """Converts a ViT or DeiT with a head for classes.

    What the image processor makes of a pixel's value is folded into the patch kernel and its bias,
    and the two heads of a DeiT with a teacher, whose logits are averaged, become one.
    """
    family = str(folder.config["model_type"])
    settings = Settings(folder.config, problems)
    options = _read_options(settings, family)
    architecture = settings.take_list("architectures", default=[_ARCHITECTURES[family][0]])
    if len(architecture) != 1 or architecture[0] not in _ARCHITECTURES[family]:
        known = " or ".join(_ARCHITECTURES[family])
        problems.add(f"its architectures={brief(architecture)} must be {known}: it has no head")
    with_teacher = architecture == [_WITH_TEACHER]
    if with_teacher:
        options["pooling"] = "both_tokens"
    settings.finish()
    heads = ("cls_classifier", "distillation_classifier") if with_teacher else ("classifier",)
    classes = read_classes(folder, heads[0], problems)
    preprocessing = read_preprocessing(folder, family, options, problems)
    _check_sizes(folder.tensors, family, heads, options, len(classes), problems)
    problems.raise_if_any(folder.path)
    model = VisionTransformer(len(classes), **options)
    model.build()
    rows = _table(family, heads, options, preprocessing)
    unused = (r".*\.pooler\.dense\.(weight|bias)", r".*\.embeddings\.mask_token")
    load_weights(model, rows, folder.tensors, problems, unused=unused)
    return Imported(ImageClassifier(model, classes, resizing=preprocessing.resizing))


def _read_options(settings: Settings, family: str) -> dict[str, Any]:
    """Returns the arguments of a `VisionTransformer`."""
    options: dict[str, Any] = {
        ours: settings.take_int(theirs)
        for ours, theirs in (
            ("num_layers", "num_hidden_layers"),
            ("d_model", "hidden_size"),
            ("num_heads", "num_attention_heads"),
            ("hidden_dim", "intermediate_size"),
        )
    }
    for ours, theirs, most, default in (
        ("image_size", "image_size", _MOST_PIXELS, 224),
        ("patch_size", "patch_size", _MOST_PIXELS, 16),
        ("channels", "num_channels", _MOST_CHANNELS, 3),
    ):
        options[ours] = settings.take_int(theirs, most=most, default=default)
    options["activation"] = settings.take_choice("hidden_act", _ACTIVATIONS, default="gelu")
    options["epsilon"] = settings.take_float("layer_norm_eps", most=1.0, default=1e-12)
    options["dropout"] = settings.take_float("hidden_dropout_prob", most=0.999, default=0.0)
    options["attention_dropout"] = settings.take_float(
        "attention_probs_dropout_prob", most=0.999, default=0.0
    )
    options["distillation_token"] = family == "deit"
    settings.require(
        "qkv_bias", True, why="queries, keys and values without a bias beside others with one"
    )
    settings.require(
        "problem_type",
        None,
        "single_label_classification",
        why="the probabilities of classes must add up to 1",
    )
    settings.ignore("encoder_stride", "id2label", "pooler_act", "pooler_output_size")
    return options


def _check_sizes(
    tensors: TensorReader,
    family: str,
    heads: tuple[str, ...],
    options: dict[str, Any],
    num_classes: int,
    problems: Problems,
) -> None:
    """Compares the sizes with the tensors' headers, and with each other, before any is used."""
    d_model, patch = options["d_model"], options["patch_size"]
    if d_model % options["num_heads"]:
        problems.add(
            f"hidden_size={d_model} is no multiple of num_attention_heads={options['num_heads']}"
        )
    if options["image_size"] % patch:
        problems.add(f"image_size={options['image_size']} is no multiple of patch_size={patch}")
    check_layers(
        tensors, f"{family}.encoder.layer.", options["num_layers"], "num_hidden_layers", problems
    )
    positions = (options["image_size"] // patch) ** 2 + 1 + options["distillation_token"]
    start = f"{family}.embeddings"
    kernel = (d_model, options["channels"], patch, patch)
    check_shape(tensors, f"{start}.patch_embeddings.projection.weight", kernel, problems)
    check_shape(tensors, f"{start}.position_embeddings", (1, positions, d_model), problems)
    inner = f"{family}.encoder.layer.0.intermediate.dense.weight"
    check_shape(tensors, inner, (options["hidden_dim"], d_model), problems)
    for head in heads:
        check_shape(tensors, f"{head}.weight", (num_classes, d_model), problems)


def _table(
    family: str, heads: tuple[str, ...], options: dict[str, Any], preprocessing: Preprocessing
) -> Iterator[Weight]:
    start, ours = f"{family}.embeddings.", "patch_embedding."
    patches = f"{start}patch_embeddings.projection."
    kernel, bias = (functools.partial(fold, preprocessing) for fold in (_fold, _fold_bias))
    yield Weight(f"{ours}projection.kernel", (f"{patches}weight",), kernel)
    yield Weight(f"{ours}projection.bias", (f"{patches}weight", f"{patches}bias"), bias)
    yield Weight(f"{ours}position_embeddings", (f"{start}position_embeddings",), _first)
    yield Weight(f"{ours}class_embedding", (f"{start}cls_token",), _first)
    if options["distillation_token"]:
        yield Weight(f"{ours}distillation_embedding", (f"{start}distillation_token",), _first)
    for i in range(options["num_layers"]):
        yield from _block(f"encoder.blocks.{i}.", f"{family}.encoder.layer.{i}.")
    yield from _norm("encoder.final_norm.", f"{family}.layernorm.")
    yield Weight("head.kernel", tuple(f"{head}.weight" for head in heads), _mean_of_kernels)
    yield Weight("head.bias", tuple(f"{head}.bias" for head in heads), _mean_of_biases)


def _block(ours: str, theirs: str) -> Iterator[Weight]:
    names = [f"{theirs}attention.attention.{part}." for part in ("query", "key", "value")]
    fused = f"{ours}self_attention.input_projection."
    yield Weight(f"{fused}kernel", tuple(f"{name}weight" for name in names), joined_transposed)
    yield Weight(f"{fused}bias", tuple(f"{name}bias" for name in names), joined)
    for layer, dense in (
        ("self_attention.output_projection.", "attention.output.dense."),
        ("feed_forward.hidden_projection.", "intermediate.dense."),
        ("feed_forward.output_projection.", "output.dense."),
    ):
        yield Weight(f"{ours}{layer}kernel", (f"{theirs}{dense}weight",), transposed)
        yield Weight(f"{ours}{layer}bias", (f"{theirs}{dense}bias",))
    yield from _norm(f"{ours}self_attention_norm.", f"{theirs}layernorm_before.")
    yield from _norm(f"{ours}feed_forward_norm.", f"{theirs}layernorm_after.")


def _norm(ours: str, theirs: str) -> Iterator[Weight]:
    yield Weight(f"{ours}gamma", (f"{theirs}weight",))
    yield Weight(f"{ours}beta", (f"{theirs}bias",))


def _first(array: np.ndarray) -> np.ndarray:
    """Drops the axis of the batch: `[1, N, D] -> [N, D]`."""
    return array.reshape(array.shape[1:])


def _mean_of_kernels(*kernels: np.ndarray) -> np.ndarray:
    """Joins the heads' kernels `[n, D]` to that of their mean: `[heads * D, n]`."""
    return np.concatenate(kernels, axis=1).T / len(kernels)


def _mean_of_biases(*biases: np.ndarray) -> np.ndarray:
    return np.mean(biases, axis=0)


def _fold(preprocessing: Preprocessing, kernel: np.ndarray) -> np.ndarray:
    """Turns a kernel `[D, C, P, P]` of their pixels into `[P * P * C, D]` of ours.

    With ours v = p / 127.5 - 1 of a pixel p in [0, 255], theirs is (p * factor - mean) / deviation
    = v * 127.5 * factor / deviation + (127.5 * factor - mean) / deviation.
    """
    scale = _HALF_RANGE * preprocessing.factor / preprocessing.deviation
    folded = kernel.transpose(2, 3, 1, 0) * scale[:, None]  # [P, P, C, D]
    return folded.reshape(-1, kernel.shape[0])


def _fold_bias(preprocessing: Preprocessing, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Adds what the kernel makes of the constant part of a pixel; see `_fold`."""
    offset = (_HALF_RANGE * preprocessing.factor - preprocessing.mean) / preprocessing.deviation
    return bias + np.einsum("dchw,c->d", kernel.astype("float64"), offset)
