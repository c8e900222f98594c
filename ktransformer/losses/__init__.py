"""Losses of token predictions: label-smoothed cross-entropy per real token, and R-Drop."""

from ktransformer.losses.cross_entropy import smoothed_cross_entropy, token_weights
from ktransformer.losses.guided_alignment import alignment_weights, guided_alignment_loss
from ktransformer.losses.projected import projected_losses
from ktransformer.losses.r_drop import RDrop
from ktransformer.losses.smoothed import SmoothedCrossEntropy

__all__ = [
    "RDrop",
    "SmoothedCrossEntropy",
    "alignment_weights",
    "guided_alignment_loss",
    "projected_losses",
    "smoothed_cross_entropy",
    "token_weights",
]
