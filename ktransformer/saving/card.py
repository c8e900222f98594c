"""The model card of a run: `card.md`, for the people who are to use the model."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from ktransformer._version import __version__
from ktransformer.config import Config

if TYPE_CHECKING:
    from ktransformer.saving.run import Run

_SCORES = {  # The metrics of validation text, and how a reader knows them.
    "bleu": "BLEU",
    "chrf": "chrF",
    "exact_match": "exact matches",
    "perplexity": "perplexity",
    "accuracy": "token accuracy",
}
_NOT_SETTINGS = {"tensorboard"}  # A folder of the machine.
_UNKNOWN = "Not known: the folder was not written by the training itself."


@dataclasses.dataclass(frozen=True)
class Origin:
    """How a run was trained, as far as its settings and metrics do not say it.

    Attributes:
        data: Facts of the text by name, such as `{"files": "train.en, train.de"}`.
        seconds: Time of the training, evaluation included, resumed parts added up.
        machine: The processor, the number of its cores and the backend.
        start: The weights that it started from, in words.
        scored: What the scores were computed on, in words; None without validation text.
        signature: sacreBLEU's signature of BLEU; None likewise.
    """

    data: Mapping[str, str]
    seconds: float
    machine: str
    start: str = "random weights"
    scored: str | None = None
    signature: str | None = None


def write_card(run: "Run", name: str) -> str:
    """Returns the model card of a run, in Markdown.

    Args:
        run: The run.
        name: The name of its folder.
    """
    sections = {
        "Data": _describe_data(run),
        "Scores": _describe_scores(run),
        "Training": _describe_training(run),
        "Settings": _describe_settings(run.config),
        "Limits": _describe_limits(run),
    }
    title = f"# {name}\n\n{_describe_model(run)}\n"
    return title + "".join(f"\n## {name}\n\n{text}\n" for name, text in sections.items())


def _describe_model(run: "Run") -> str:
    sizes = run.config.model
    decoder = sizes.num_decoder_layers or sizes.num_layers
    return (
        f"A Transformer from text to text, by ktransformer {__version__}: {sizes.num_layers} + "
        f"{decoder} layers, width {sizes.d_model}, {sizes.num_heads} heads, "
        f"{run.model.count_params():,} parameters, {run.tokenizer.vocabulary_size:,} pieces"
        + (
            "."
            if run.target_tokenizer is None
            else f" of the source and {run.target_tokenizer.vocabulary_size:,} of the target."
        )
    )


def _describe_data(run: "Run") -> str:
    facts = {} if run.origin is None else dict(run.origin.data)
    for name, counts in run.history.items():
        if name.startswith("dropped_") and counts and counts[0] is not None:
            reason = name.removeprefix("dropped_").replace("_", " ")
            facts[f"left out by cleaning ({reason})"] = f"{counts[0]:,.0f} pairs"
    return _list(facts) or _UNKNOWN


def _describe_scores(run: "Run") -> str:
    scores = final_scores(run.history)
    if not scores:
        return _UNKNOWN if run.origin is None else "None: the training had no validation text."
    rows = [f"| {_SCORES[name]} | {value:.4g} |" for name, value in scores.items()]
    text = "\n".join(["| validation | |", "| --- | --- |", *rows])
    origin = run.origin
    if origin is None:
        text += "\n\nOf the training that this run came from: it may have been changed since."
    if origin is not None and origin.scored is not None:
        text += f"\n\nBLEU, chrF and exact matches are of {origin.scored}."
        text += f" sacreBLEU's signature: `{origin.signature}`."
    return text


def final_scores(history: Mapping[str, list[float]]) -> dict[str, float]:
    """Returns the validation scores of a run's final weights, by name; empty where unknown.

    Where the averaged weights were not scored, these are the last epoch's.
    """
    found = {}
    for name in _SCORES:
        values = history.get(f"final_val_{name}") or history.get(f"val_{name}")
        if values and values[-1] is not None:  # A score that is not finite is stored as null.
            found[name] = values[-1]
    return found


def _describe_training(run: "Run") -> str:
    facts = {}
    if "loss" in run.history:
        facts["epochs"] = f"{len(run.history['loss']):,}"
    if run.origin is not None:
        facts["started from"] = run.origin.start
        facts["time"] = f"{run.origin.seconds / 3600:.2f} hours"
        facts["machine"] = run.origin.machine
    return _list(facts) or _UNKNOWN


def _describe_settings(config: Config) -> str:
    changed = changed_settings(config)
    if not changed:
        return "The defaults."
    lines = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return f"Where they are not the defaults:\n\n```yaml\n{lines}```"


def changed_settings(config: Config) -> dict[str, Any]:
    """Returns the settings that are not the defaults, but for folders of the machine."""
    changed = {}
    for section, values in config.to_dict().items():
        defaults = Config().to_dict()[section]
        for name, value in values.items():
            if value != defaults[name] and name not in _NOT_SETTINGS:
                changed[name] = value
    return changed


def _describe_limits(run: "Run") -> str:
    longest = run.config.model.max_length
    lines = [
        f"A text of more than {longest - 1} tokens is cut; `--document` goes by sentences.",
        "The model knows the kind of text that it was trained on; nothing measures it on yours.",
        "A translation may say what the source does not: a person checks it where that matters.",
        "Characters that are not in the training text are unknown to the tokenizer.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _list(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())
