"""The files with which sentence-transformers describes the way from tokens to a text's vector."""

from typing import Any, NamedTuple

from ktransformer.conversion.folder import PublishedFolder
from ktransformer.conversion.problems import Problems
from ktransformer.conversion.settings import Settings
from ktransformer.errors import brief

MODULES = "modules.json"
_SENTENCE = "sentence_bert_config.json"
_GENERAL = "config_sentence_transformers.json"
_FLAGS = {  # The pooling of older versions: one flag for each kind.
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": None,
    "pooling_mode_weightedmean_tokens": None,
    "pooling_mode_lasttoken": None,
}
_POOLINGS = ("mean", "cls", "max")


class SentenceEncoder(NamedTuple):
    """What sentence-transformers' files say.

    Attributes:
        pooling: What becomes of a text's tokens, as `TextEmbedder` has it.
        normalize: Whether the vectors get the length 1.
        max_length: The longest text, in tokens; None where the tokenizer's files say it.
        lowercase: Whether texts lose their case before the tokenizer sees them.
    """

    pooling: str = "mean"
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False


def read_sentence_encoder(folder: PublishedFolder, problems: Problems) -> SentenceEncoder | None:
    """Reads sentence-transformers' files; None for a folder without `modules.json`.

    Args:
        folder: The folder.
        problems: Gets a sentence for each module and setting that has no counterpart here.
    """
    modules = folder.read_json(MODULES)
    if modules is None:
        return None
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        problems.add(f"{MODULES} is damaged: it is no list of modules")
        return SentenceEncoder()
    kinds = [str(each.get("type")).rpartition(".")[2] for each in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        problems.add(
            f"{MODULES} has the modules {', '.join(kinds)}, which must be Transformer, Pooling and "
            "at most Normalize, in this order: the vectors would be others"
        )
        return SentenceEncoder()
    paths = [str(each.get("path")) for each in modules]
    if paths[0]:
        problems.add(f"{MODULES} puts the Transformer into {brief(paths[0])}, not into the folder")
    _check_general(_settings(folder, _GENERAL, problems))
    if "Normalize" in kinds:
        _check_normalize(_settings(folder, f"{paths[2]}/config.json", problems))
    pooling = _read_pooling(folder, f"{paths[1]}/config.json", problems)
    max_length, lowercase = _read_texts(_settings(folder, _SENTENCE, problems))
    return SentenceEncoder(pooling, "Normalize" in kinds, max_length, lowercase)


def _settings(folder: PublishedFolder, name: str, problems: Problems) -> Settings:
    values = folder.read_json(name)
    if values is not None and not isinstance(values, dict):
        problems.add(f"{name} is damaged: it holds no JSON object")
    return Settings(values if isinstance(values, dict) else {}, problems, name)


def _check_general(settings: Settings) -> None:
    settings.require(
        "default_prompt_name", None, why="every text would have to begin with that prompt"
    )
    settings.ignore("__version__", "model_type", "prompts", "similarity_fn_name")
    settings.finish()


def _check_normalize(settings: Settings) -> None:
    for name in ("module_input_name", "module_output_name"):
        settings.require(name, "sentence_embedding", why="another vector would be normalised")
    settings.finish()


def _read_pooling(folder: PublishedFolder, name: str, problems: Problems) -> str:
    values = folder.read_json(name)
    if not isinstance(values, dict):
        problems.add(f"{name} must be there, a JSON object with the pooling")
        return "mean"
    settings = Settings(values, problems, name)
    width = folder.config.get("hidden_size")
    for old_or_new in ("word_embedding_dimension", "embedding_dimension"):
        settings.require(old_or_new, width, why="it is not the hidden_size of config.json")
    settings.ignore("include_prompt")  # There is no prompt.
    settings.ignore("pooling_mode", *_FLAGS)
    settings.finish()
    modes: Any = values.get("pooling_mode")
    if modes is None:
        modes = [mode or flag for flag, mode in _FLAGS.items() if values.get(flag) is True]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in _POOLINGS:
        problems.add(
            f"{name} asks for the pooling {brief(modes)}, which must be one of {_POOLINGS}"
        )
        return "mean"
    return str(modes[0])


def _read_texts(settings: Settings) -> tuple[int | None, bool]:
    """Returns the longest text and whether its letters lose their case."""
    length = settings.take_int("max_seq_length", least=0, default=0)
    lowercase = settings.take_bool("do_lower_case", default=False)
    settings.require("transformer_task", "feature-extraction", why="its vectors would be others")
    settings.require("module_output_name", "token_embeddings", why="its vectors would be others")
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    settings.require("modality_config", {"text": text}, why="its vectors would be others")
    settings.finish()
    return length or None, lowercase
