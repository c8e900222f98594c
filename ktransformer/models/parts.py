"""The parts of a model by name, to freeze them or to adapt their projections."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from ktransformer.layers import PatchEmbedding, PositionalEmbedding
from ktransformer.models.block_stack import BlockStack

_STACKS = ("encoder", "decoder")
_SUBLAYERS = ("self_attention", "cross_attention", "feed_forward")


def model_parts(model: keras.Model) -> dict[str, list[Any]]:
    """Returns the layers and single variables of each part of a built model, by the part's name.

    `embeddings` are the tables of ids with their positions, or the projection of patches; `encoder`
    and `decoder` the stacks, `encoder.0` the first block; `self_attention`, `cross_attention` and
    `feed_forward` those sublayers of all blocks, without their norms; `output` all that follows the
    stacks with weights of its own, such as an output projection that is not tied, and the weights
    that the model holds outside of its layers, such as an output bias.
    """
    parts: dict[str, list[Any]] = {}
    stacks: list[keras.layers.Layer] = []
    for name in _STACKS:
        stack = getattr(model, name, None)
        if not isinstance(stack, BlockStack):
            continue
        stacks.append(stack)
        parts[name] = [stack]
        for index, block in enumerate(stack.blocks):
            parts[f"{name}.{index}"] = [block]
            for sublayer in _SUBLAYERS:
                if hasattr(block, sublayer):
                    parts.setdefault(sublayer, []).append(getattr(block, sublayer))
    tables = (PositionalEmbedding, PatchEmbedding)
    parts["embeddings"] = [layer for layer in model.layers if isinstance(layer, tables)]
    others = [layer for layer in model.layers if layer not in (*stacks, *parts["embeddings"])]
    inner = {id(weight) for layer in model.layers for weight in layer.weights}
    direct = [weight for weight in model.weights if id(weight) not in inner]
    parts["output"] = [*(layer for layer in others if layer.weights), *direct]
    return {name: layers for name, layers in parts.items() if layers}


def find_layers(model: keras.Model, names: Iterable[str], *, argument: str) -> list[Any]:
    """Returns the layers and single variables of some parts of a model.

    Args:
        model: A built model.
        names: Names of `model_parts`.
        argument: The argument that gave the names, for the error.

    Raises:
        ValueError: The model has no part of a name.
    """
    parts = model_parts(model)
    for name in names:
        if name not in parts:
            known = ", ".join(sorted(parts))
            raise ValueError(f"{argument} must name parts of the model, {known}; got {name!r}.")
    return [layer for name in names for layer in parts[name]]


def freeze(model: keras.Model, names: Iterable[str]) -> None:
    """Makes the weights of some parts of a built model constant in training.

    Args:
        model: The model; compile it afterwards.
        names: Names of `model_parts`.

    Raises:
        ValueError: The model has no part of a name, or no weight is left to train.
    """
    for layer in find_layers(model, names, argument="freeze"):
        for weight in getattr(layer, "weights", [layer]):
            weight.trainable = False
    if not model.trainable_weights:
        raise ValueError(f"freeze must leave a weight to train; got {', '.join(names)}.")


def projections(layers: Iterable[Any]) -> Iterator[keras.layers.Dense]:
    """Yields the dense layers within some layers, each once, in a fixed order."""
    found: set[int] = set()
    for layer in layers:
        for inner in layer._flatten_layers() if isinstance(layer, keras.layers.Layer) else ():
            if isinstance(inner, keras.layers.Dense) and id(inner) not in found:
                found.add(id(inner))
                yield inner
