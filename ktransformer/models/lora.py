"""LoRA: small matrices that are trained beside the kernels of a model that stays as it is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from ktransformer.models.parts import find_layers, projections

LORA_LAYERS = ("self_attention", "cross_attention", "feed_forward")


class LoraOptions(NamedTuple):
    """Which projections are adapted, and how.

    Attributes:
        rank: r, the columns of A and the rows of B.
        alpha: The product is scaled by alpha / r.
        layers: Parts of the model whose projections are adapted; see `models.parts`.
        frozen: Parts among them that are not.
    """

    rank: int
    alpha: float
    layers: Sequence[str] = LORA_LAYERS
    frozen: Sequence[str] = ()


def find_adapted(model: keras.Model, options: LoraOptions) -> list[keras.layers.Dense]:
    """Returns the projections of a built model that `options` adapt, in a fixed order.

    Raises:
        ValueError: The model has no such part, or no projection is in these parts.
    """
    frozen = find_layers(model, options.frozen, argument="freeze")
    excluded = {id(each) for each in projections(frozen)}
    layers = find_layers(model, options.layers, argument="lora_layers")
    found = [each for each in projections(layers) if id(each) not in excluded]
    if not found:
        raise ValueError(
            "lora_layers must name parts with projections that are not frozen; got "
            f"lora_layers={', '.join(options.layers)}, freeze={', '.join(options.frozen)}."
        )
    return found


def add_lora(model: keras.Model, options: LoraOptions) -> None:
    """Freezes a built model and adds trainable matrices A `[D, r]` and B `[r, D']` to projections.

    A is drawn and B is 0, so that the model computes at first what it did. Compile it afterwards.

    Args:
        model: The model; it is changed in place.
        options: Which projections, and how.

    Raises:
        ValueError: See `find_adapted`; or a projection has a LoRA already.

    Reference: Hu et al. 2021, section 4.1. Query, key and value are one kernel here and share A.
    """
    adapted = find_adapted(model, options)
    for weight in model.weights:
        weight.trainable = False
    for projection in adapted:
        projection.enable_lora(options.rank, lora_alpha=options.alpha)


def lora_matrices(model: keras.Model, options: LoraOptions) -> list[Any]:
    """Returns the variables A and B of each adapted projection, one after the other."""
    return [
        matrix
        for projection in find_adapted(model, options)
        for matrix in (projection.lora_kernel_a, projection.lora_kernel_b)
    ]


def merge_lora(model: keras.Model, options: LoraOptions, matrices: Sequence[Any]) -> None:
    """Adds the products of matrices A and B to the kernels of a plain model, in place.

    Args:
        model: A built model without LoRA.
        options: Which projections, and how.
        matrices: A and B of each adapted projection, as `lora_matrices` orders them.

    Raises:
        ValueError: The matrices do not fit the projections.
    """
    adapted = find_adapted(model, options)
    wanted = []
    for projection in adapted:
        d_in, d_out = projection.kernel.shape
        wanted += [(d_in, options.rank), (options.rank, d_out)]
    if wanted != [tuple(matrix.shape) for matrix in matrices]:
        raise ValueError("the matrices have other shapes than its projections.")
    for projection, a, b in zip(adapted, matrices[::2], matrices[1::2], strict=True):
        change = ops.matmul(a, b) * (options.alpha / options.rank)
        projection.kernel.assign(projection.kernel + change)
