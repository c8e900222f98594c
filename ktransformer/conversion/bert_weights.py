"""The tensors of BERT: their shapes, and the table from them to our variables."""

from collections.abc import Iterator
from typing import Any

from ktransformer.conversion.problems import Problems
from ktransformer.conversion.tensors import TensorReader
from ktransformer.conversion.weight_table import (
    Weight,
    check_copies,
    check_layers,
    check_shape,
    joined,
    joined_transposed,
    transposed,
)
from ktransformer.models import MaskedLanguageModel, SequenceClassifier, TextEncoder

HEADS = r"cls\.(predictions|seq_relationship)\..*"
NEXT_SENTENCE = r"cls\.seq_relationship\.(weight|bias)"
UNUSED = (
    r"(bert\.)?embeddings\.(position_ids|token_type_ids)",
    r"(bert\.)?pooler\.dense\.(weight|bias)",
)
"""Tensors that change nothing; the pooler is that of the classifier, whose table uses it."""
_TABLE = "embeddings.word_embeddings.weight"
_PREDICTIONS = "cls.predictions"


def find_prefix(tensors: TensorReader) -> str:
    """Returns what stands before the encoder's names: a model with a head puts it below `bert`."""
    return "bert." if any(name.startswith("bert.") for name in tensors.names) else ""


def check_tensors(tensors: TensorReader, sizes: dict[str, Any], problems: Problems) -> None:
    """Compares the arguments of our model with the tensors' shapes, before anything is built."""
    prefix, width = find_prefix(tensors), sizes["d_model"]
    shapes = {
        _TABLE: (sizes["vocabulary_size"], width),
        "embeddings.position_embeddings.weight": (sizes["max_length"], width),
        "embeddings.token_type_embeddings.weight": (sizes["type_vocabulary_size"], width),
        "encoder.layer.0.intermediate.dense.weight": (sizes["hidden_dim"], width),
    }
    for name, shape in shapes.items():
        if prefix + name not in tensors:
            problems.add(f"it lacks the tensor {prefix + name}")
        check_shape(tensors, prefix + name, shape, problems)
    layers = f"{prefix}encoder.layer."
    check_layers(tensors, layers, sizes["num_layers"], "num_hidden_layers", problems)


def check_tied(tensors: TensorReader, problems: Problems) -> tuple[str, ...]:
    """Checks that the masked language model's output is the embedding's table, with one bias.

    Returns:
        The names of the tensors that are stored twice.
    """
    twice = {
        f"{_PREDICTIONS}.decoder.weight": find_prefix(tensors) + _TABLE,
        f"{_PREDICTIONS}.decoder.bias": f"{_PREDICTIONS}.bias",
    }
    return check_copies(tensors, twice, "an output without the embedding's table", problems)


def weight_table(
    model_class: type[TextEncoder], tensors: TensorReader, num_layers: int
) -> Iterator[Weight]:
    """Yields a row for each variable of a model of this class."""
    prefix = find_prefix(tensors)
    yield Weight("embedding.embeddings", (prefix + _TABLE,))
    for ours, theirs in (("position", "position"), ("type", "token_type")):
        name = f"{prefix}embeddings.{theirs}_embeddings.weight"
        yield Weight(f"embedding.{ours}_embeddings", (name,))
    yield from _norm("embedding.sum_norm", f"{prefix}embeddings.LayerNorm", tensors)
    for i in range(num_layers):
        yield from _layer(f"encoder.blocks.{i}", f"{prefix}encoder.layer.{i}", tensors)
    if model_class is SequenceClassifier:
        yield from _dense("pooler", f"{prefix}pooler.dense")
        yield from _dense("head", "classifier")
    if model_class is MaskedLanguageModel:
        yield from _dense("head_projection", f"{_PREDICTIONS}.transform.dense")
        yield from _norm("head_norm", f"{_PREDICTIONS}.transform.LayerNorm", tensors)
        yield Weight("head_bias", (f"{_PREDICTIONS}.bias",))


def _layer(ours: str, theirs: str, tensors: TensorReader) -> Iterator[Weight]:
    attention = f"{theirs}.attention"
    parts = [f"{attention}.self.{name}" for name in ("query", "key", "value")]
    fused = f"{ours}.self_attention.input_projection"
    yield Weight(f"{fused}.kernel", tuple(f"{each}.weight" for each in parts), joined_transposed)
    yield Weight(f"{fused}.bias", tuple(f"{each}.bias" for each in parts), joined)
    yield from _dense(f"{ours}.self_attention.output_projection", f"{attention}.output.dense")
    yield from _norm(f"{ours}.self_attention_norm", f"{attention}.output.LayerNorm", tensors)
    yield from _dense(f"{ours}.feed_forward.hidden_projection", f"{theirs}.intermediate.dense")
    yield from _dense(f"{ours}.feed_forward.output_projection", f"{theirs}.output.dense")
    yield from _norm(f"{ours}.feed_forward_norm", f"{theirs}.output.LayerNorm", tensors)


def _dense(ours: str, theirs: str) -> Iterator[Weight]:
    yield Weight(f"{ours}.kernel", (f"{theirs}.weight",), transposed)
    yield Weight(f"{ours}.bias", (f"{theirs}.bias",))


def _norm(ours: str, theirs: str, tensors: TensorReader) -> Iterator[Weight]:
    # The first checkpoints have TensorFlow's names.
    scale, offset = ("gamma", "beta") if f"{theirs}.gamma" in tensors else ("weight", "bias")
    yield Weight(f"{ours}.gamma", (f"{theirs}.{scale}",))
    yield Weight(f"{ours}.beta", (f"{theirs}.{offset}",))
