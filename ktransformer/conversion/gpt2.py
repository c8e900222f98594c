"""GPT-2: a causal language model of byte-level pieces, and so of ids alone."""

from collections.abc import Iterator
from typing import Any

from ktransformer.conversion.causal import AddedIds, check_tied, norm, read_end, read_generation
from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.importing import Imported
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.registry import register_family
from ktransformer.conversion.settings import Settings
from ktransformer.conversion.weight_table import Weight, check_layers, check_shape, load_weights
from ktransformer.layers.activations import gelu_tanh
from ktransformer.models import CausalLanguageModel
from ktransformer.tasks import IdGenerator

_ACTIVATIONS = {
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# Masks that old files hold.
_UNUSED = (r".*\.attn\.(bias|masked_bias)",)


@register_family("gpt2")
def convert(folder: PublishedFolder, problems: Problems) -> Imported:
    """Converts a GPT2LMHeadModel.

    Its ids stay; three are added behind them: padding, unknown, and a start token that is a copy of
    the one that begins and ends a text there.
    """
    settings = Settings(folder.config, problems)
    size = settings.take_int("vocab_size", least=2, default=50257)
    options = _read_options(settings)
    end = read_end(settings, folder.config, problems)
    start = settings.take_int("bos_token_id", least=0, default=end)
    settings.ignore("pad_token_id")
    tied = settings.take_bool("tie_word_embeddings", default=True)
    settings.finish()
    if max(start, end) >= size:
        problems.add(f"bos_token_id={start} and eos_token_id={end} must be below vocab_size={size}")
    decoding = read_generation(folder.generation_config, end, options["max_length"], problems)
    tensors = folder.tensors
    # Those of the first releases are without it.
    prefix = "" if "wte.weight" in tensors else "transformer."
    d_model = options["d_model"]
    check_layers(tensors, f"{prefix}h.", options["num_layers"], "n_layer", problems)
    check_shape(tensors, f"{prefix}wte.weight", (size, d_model), problems)
    check_shape(tensors, f"{prefix}wpe.weight", (options["max_length"], d_model), problems)
    inner = (d_model, options["hidden_dim"])
    check_shape(tensors, f"{prefix}h.0.mlp.c_fc.weight", inner, problems)
    if tied:
        check_tied(tensors, f"{prefix}wte.weight", problems)
    if d_model % options["num_heads"]:
        problems.add(f"n_embd={d_model} is no multiple of n_head={options['num_heads']}")
    problems.raise_if_any(folder.path)
    added = AddedIds.behind(size, start, end)
    model = CausalLanguageModel(
        size + added.num_added, pad_id=added.special.pad, tie_embeddings=tied, **options
    )
    model.build()
    rows = _table(prefix, options["num_layers"], tied, added)
    unused = (*_UNUSED, r"lm_head\.weight") if tied else _UNUSED
    load_weights(model, rows, tensors, problems, unused=unused)
    problems.raise_if_any(folder.path)
    return Imported(IdGenerator(model, added.special, decoding), notes=(_note(added),))


def _read_options(settings: Settings) -> dict[str, Any]:
    """Returns the arguments of a `CausalLanguageModel`."""
    settings.ignore("n_ctx", "predict_special_tokens", "reorder_and_upcast_attn")
    settings.ignore("summary_activation", "summary_first_dropout", "summary_proj_to_labels")
    settings.ignore("summary_type", "summary_use_proj", "embd_pdrop")
    settings.require("scale_attn_weights", True, why="scores would not be divided by a root")
    why = "scores would be divided by the number of the layer"
    settings.require("scale_attn_by_inverse_layer_idx", False, why=why)
    settings.require("add_cross_attention", False, None, why="it would attend to a second text")
    d_model = settings.take_int("n_embd", default=768)
    return {
        "num_layers": settings.take_int("n_layer", default=12),
        "d_model": d_model,
        "num_heads": settings.take_int("n_head", default=12),
        "hidden_dim": settings.take_int("n_inner", default=4 * d_model),
        "max_length": settings.take_int("n_positions", least=2, default=1024),
        "activation": settings.take_choice("activation_function", _ACTIVATIONS, default="gelu_new"),
        "epsilon": settings.take_float("layer_norm_epsilon", most=1.0, default=1e-5),
        "dropout": settings.take_float("resid_pdrop", most=0.999, default=0.1),
        "attention_dropout": settings.take_float("attn_pdrop", most=0.999, default=0.1),
        "output_bias": True,
    }


def _table(prefix: str, num_layers: int, tied: bool, added: AddedIds) -> Iterator[Weight]:
    """Yields the weights; kernels are `[in, out]` there as here, and c_attn is ours."""
    table = (f"{prefix}wte.weight",)
    yield Weight("target_embedding.embeddings", table, added.table)
    yield Weight("target_embedding.position_embeddings", (f"{prefix}wpe.weight",))
    yield Weight("output_bias_weight", table, added.bias)
    if not tied:
        yield Weight("output_embedding.kernel", ("lm_head.weight",), added.kernel)
    for i in range(num_layers):
        ours, theirs = f"decoder.blocks.{i}", f"{prefix}h.{i}"
        for layer, name in (
            ("self_attention.input_projection", "attn.c_attn"),
            ("self_attention.output_projection", "attn.c_proj"),
            ("feed_forward.hidden_projection", "mlp.c_fc"),
            ("feed_forward.output_projection", "mlp.c_proj"),
        ):
            yield Weight(f"{ours}.{layer}.kernel", (f"{theirs}.{name}.weight",))
            yield Weight(f"{ours}.{layer}.bias", (f"{theirs}.{name}.bias",))
        yield from norm(f"{ours}.self_attention_norm", f"{theirs}.ln_1")
        yield from norm(f"{ours}.feed_forward_norm", f"{theirs}.ln_2")
    yield from norm("decoder.final_norm", f"{prefix}ln_f")


def _note(added: AddedIds) -> str:
    special = added.special
    return (
        "The model takes ids, not texts, because its byte-level pieces have no exact form in a "
        f"graph; the ids {special.pad} (padding), {special.unknown} (unknown) and {special.start} "
        f"(start, a copy of {added.start_row}) are added."
    )
