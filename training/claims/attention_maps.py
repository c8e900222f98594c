"""The attention weights of every layer of a Transformer."""

from typing import Any

import numpy as np

from ktransformer.models import Transformer

KINDS = ("encoder self-attention", "decoder self-attention", "cross-attention")
"""The three attentions, in the order of the forward pass."""


def attention_maps(model: Transformer, inputs: dict[str, Any]) -> dict[str, list[np.ndarray]]:
    """Runs a model and returns the attention weights of each layer.

    Args:
        model: A model with the library's blocks.
        inputs: `{"source": int [B, S], "target": int [B, T]}`.

    Returns:
        Weights of the layers for each of `KINDS`: `[B, H, S, S]`, `[B, H, T, T]`, `[B, H, T, S]`.
    """
    maps: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    source_mask = model.source_embedding.compute_mask(inputs["source"])
    target_mask = model.target_embedding.compute_mask(inputs["target"])
    hidden = model.source_embedding(inputs["source"], training=False)
    for block in model.encoder.blocks:
        maps[KINDS[0]].append(np.asarray(block.attention_weights(hidden, source_mask)))
        hidden = block(hidden, mask=source_mask, training=False)
    memory = model.encoder.finish(hidden)
    hidden = model.target_embedding(inputs["target"], training=False)
    for block in model.decoder.blocks:
        maps[KINDS[1]].append(np.asarray(block.attention_weights(hidden, target_mask)))
        weights = block.cross_attention_weights(hidden, memory, target_mask, source_mask)
        maps[KINDS[2]].append(np.asarray(weights))
        hidden = block(
            hidden, memory, inputs_mask=target_mask, memory_mask=source_mask, training=False
        )
    return maps


def query_mask(kind: str, inputs: dict[str, Any]) -> np.ndarray:
    """Returns the mask of the real queries of an attention: boolean `[B, S]` or `[B, T]`."""
    return np.asarray(inputs["source" if kind == KINDS[0] else "target"]) != 0


def by_distance(weights: np.ndarray, real: np.ndarray, reach: int) -> list[float]:
    """Returns the mean weight at each distance from query to key, from -reach to reach.

    Pairs with padding do not count; a distance without pairs has 0.
    """
    found = []
    for distance in range(-reach, reach + 1):
        values = np.diagonal(weights, distance, axis1=1, axis2=2)
        queries = np.diagonal(real[:, :, None] & real[:, None, :], distance, axis1=1, axis2=2)
        found.append(float(values[queries].mean()) if queries.any() else 0.0)
    return found
