"""Pictures of a training: its curves, and what a decoder attends to. Needs the extra `plots`."""

from ktransformer.drawing.attention import draw_weights as draw_weights
from ktransformer.drawing.canvas import can_draw as can_draw
from ktransformer.drawing.canvas import missing_sentence as missing_sentence
from ktransformer.drawing.curves import draw_curves as draw_curves
