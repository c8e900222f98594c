"""BERT in: encoders, masked language models and classifiers of texts."""

import re
from typing import Any

from ktransformer.conversion.bert_tokenizer import read_word_pieces
from ktransformer.conversion.bert_weights import (
    HEADS,
    NEXT_SENTENCE,
    UNUSED,
    check_tensors,
    check_tied,
    weight_table,
)
from ktransformer.conversion.classes import read_classes
from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.importing import Imported
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.registry import register_family
from ktransformer.conversion.sentence_encoder import SentenceEncoder, read_sentence_encoder
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.weight_table import load_weights
from ktransformer.errors import brief
from ktransformer.layers.activations import gelu_tanh
from ktransformer.models import MaskedLanguageModel, SequenceClassifier, TextEncoder
from ktransformer.tasks import MaskFiller, TextClassifier, TextEmbedder

_ACTIVATIONS: dict[str, Any] = {
    "gelu": "gelu",
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_MODELS: dict[str, type[TextEncoder]] = {
    "BertModel": TextEncoder,
    "BertForMaskedLM": MaskedLanguageModel,
    "BertForPreTraining": MaskedLanguageModel,
    "BertForSequenceClassification": SequenceClassifier,
}
_NO_POOLING = (
    "The folder has no files of sentence-transformers: the vector of a text is the mean over its "
    "tokens, and is not normalised."
)
_IGNORED = (
    "_attn_implementation_autoset",
    "attn_implementation",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "directionality",
    "eos_token_id",
    "output_past",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "sep_token_id",
    "use_bfloat16",
)


@register_family("bert")
def convert(folder: PublishedFolder, problems: Problems) -> Imported:
    """Converts the folder of a BERT model; see `import_published`.

    Its `architectures` tell the head. Without one it becomes a `TextEmbedder`, with the pooling and
    normalisation of sentence-transformers' files where it has them; with the head of the masked
    language model a `MaskFiller`, with that of sequence classification a `TextClassifier`.
    """
    sentence = read_sentence_encoder(folder, problems)
    model_class = TextEncoder if sentence else _find_class(folder, problems)
    settings = Settings(folder.config, problems)
    sizes, classes = _read_sizes(settings, problems), []
    if model_class is SequenceClassifier:
        classes = read_classes(folder, "classifier", problems)
        _check_problem(settings, classes, problems)
        sizes |= {"num_classes": len(classes), "head_dropout": _take_head_dropout(settings)}
    settings.ignore("num_labels", "id2label", "problem_type", "classifier_dropout", *_IGNORED)
    settings.finish()
    check_tensors(folder.tensors, sizes, problems)
    masked = model_class is MaskedLanguageModel
    tokenizer, limit = read_word_pieces(folder, problems, sizes["vocabulary_size"], mask=masked)
    if sentence and sentence.lowercase and tokenizer and not tokenizer.lowercase:
        problems.add("its texts lose their case, but its tokenizer keeps it")
    problems.raise_if_any(folder.path)
    model = _load_model(model_class, sizes, folder, problems, is_sentence=sentence is not None)
    limits = (sizes["max_length"], limit, sentence and sentence.max_length)
    max_length = min(each for each in limits if each)
    if model_class is SequenceClassifier:
        return Imported(TextClassifier(model, tokenizer, classes, max_length))
    if masked:
        return Imported(MaskFiller(model, tokenizer))
    pooling, notes = sentence or SentenceEncoder(), () if sentence else (_NO_POOLING,)
    task = TextEmbedder(model, tokenizer, pooling.pooling, pooling.normalize, max_length)
    return Imported(task, notes=notes)


def _load_model(
    model_class: type[TextEncoder],
    sizes: dict[str, Any],
    folder: PublishedFolder,
    problems: Problems,
    *,
    is_sentence: bool,
) -> Any:
    """Builds the model and gives it its weights."""
    model, tensors = model_class(**sizes), folder.tensors
    model.build()
    unused = [*UNUSED, HEADS if is_sentence else NEXT_SENTENCE]
    if model_class is MaskedLanguageModel:
        unused += map(re.escape, check_tied(tensors, problems))
    table = weight_table(model_class, tensors, sizes["num_layers"])
    load_weights(model, table, tensors, problems, unused=unused)
    problems.raise_if_any(folder.path)
    return model


def _find_class(folder: PublishedFolder, problems: Problems) -> type[TextEncoder]:
    """Returns the model's class, by `architectures`."""
    names = folder.config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    if name not in _MODELS:
        problems.add(
            f"config.json has architectures={brief(names)}, which must be one of "
            f"{', '.join(_MODELS)}, for the model's head"
        )
        return TextEncoder
    return _MODELS[name]


def _read_sizes(settings: Settings, problems: Problems) -> dict[str, Any]:
    """Returns the arguments of our model."""
    settings.require("is_decoder", False, why="BERT as a decoder is unknown here")
    settings.require("add_cross_attention", False, why="BERT as a decoder is unknown here")
    settings.require("is_encoder_decoder", False, why="BERT as a decoder is unknown here")
    settings.require("tie_encoder_decoder", False, why="BERT as a decoder is unknown here")
    settings.require("tie_word_embeddings", True, why="the output has the embedding's table here")
    settings.require("pruned_heads", {}, None, why="its layers would differ in their heads")
    settings.require(
        "position_embedding_type", "absolute", why="its attention would miss relative positions"
    )
    sizes: dict[str, Any] = {
        "vocabulary_size": settings.take_int("vocab_size"),
        "num_layers": settings.take_int("num_hidden_layers"),
        "d_model": settings.take_int("hidden_size"),
        "num_heads": settings.take_int("num_attention_heads"),
        "hidden_dim": settings.take_int("intermediate_size"),
        "max_length": settings.take_int("max_position_embeddings"),
        "type_vocabulary_size": settings.take_int("type_vocab_size", default=2),
        "pad_id": settings.take_int("pad_token_id", least=0, default=0),
        "activation": settings.take_choice("hidden_act", _ACTIVATIONS, default="gelu"),
        "dropout": settings.take_float("hidden_dropout_prob", most=0.99, default=0.1),
        "attention_dropout": settings.take_float(
            "attention_probs_dropout_prob", most=0.99, default=0.1
        ),
        "epsilon": settings.take_float("layer_norm_eps", most=1.0, default=1e-12),
        "embedding_norm": True,
        "scale_embeddings": False,
        "positions": "learned",
    }
    if sizes["d_model"] % sizes["num_heads"]:
        problems.add(
            f"hidden_size={sizes['d_model']} is no multiple of "
            f"num_attention_heads={sizes['num_heads']}"
        )
    return sizes


def _take_head_dropout(settings: Settings) -> float | None:
    """Returns the dropout before the head; None for that of the model."""
    dropout = settings.take_float("classifier_dropout", least=-1.0, most=0.99, default=-1.0)
    return None if dropout < 0 else dropout


def _check_problem(settings: Settings, classes: list[str], problems: Problems) -> None:
    settings.require(
        "problem_type",
        None,
        "single_label_classification",
        why="the probabilities of classes must add up to 1",
    )
    if len(classes) == 1:
        problems.add("it has one label: a regression, whose output is no class")
