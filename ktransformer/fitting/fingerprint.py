"""The properties that a resumed training must share with the one that was cut."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ktransformer.config import Config
from ktransformer.errors import InputError
from ktransformer.fitting.defaults import Fit
from ktransformer.fitting.state import TrainingState

# Settings that may change on resuming: they do not change the updates already made. Where
# `shard_pairs` does, as text is streamed or a sample of it drawn, the text's fingerprint differs.
_FREE = {"epochs", "patience", "checkpoint_minutes", "tensorboard", "shard_pairs"}
_COMPARED = ("model", "data", "training")  # Sections; decoding does not change a training.
CHOSEN_FOR_TEXT = ("vocabulary_size", "source_vocabulary_size", "batch_tokens")
_CHOSEN = (*CHOSEN_FOR_TEXT, *(field.name for field in dataclasses.fields(Fit)))


def check_fingerprint(state: TrainingState) -> None:
    """Checks that the state that was read has the fingerprint of this training.

    Settings that are null are compared by `record_chosen`, when they have been chosen.

    Raises:
        InputError: A setting, the text, the start or the number of devices differs.
    """
    saved, now = state.saved_fingerprint, state.fingerprint
    if not isinstance(saved.get("config"), dict):
        raise InputError(f"{state.path} is not the whole state of a training.")
    _check_equal(state, {"devices": saved.get("devices", 1)}, {"devices": now["devices"]}, set())
    pairs = saved.get("shard_pairs")  # None for text in memory, whatever the setting.
    if pairs != now.get("shard_pairs"):
        kept = "in memory" if pairs is None else f"in shards of {pairs} pairs"
        raise InputError(
            f"{state.path} is of a training with the text {kept}; set shard_pairs as it was then."
        )
    if saved.get("start") != now.get("start"):
        raise InputError(f"{state.path} is of a training that started from other weights.")
    saved_config = Config.from_dict(saved["config"]).to_dict()  # With newer settings' defaults.
    before, after = (each["data"]["shard_pairs"] for each in (saved_config, now["config"]))
    hint = "" if before == after else f", and with shard_pairs={before}; got shard_pairs={after}"
    for name in now.keys() - {"config", "chosen", "devices", "shard_pairs", "start"}:
        if saved.get(name) != now[name]:
            raise InputError(f"{state.path} is of a training with other {name} pairs{hint}.")
    free = {*_FREE, *_nulls(_chosen(saved_config)), *_nulls(_chosen(now["config"])), "warmup_steps"}
    if saved_config["training"]["patience"] is None:
        free.remove("patience")  # The weights of the epochs around the best may be gone.
    _check_equal(state, _compared(saved_config), _compared(now["config"]), free)


def record_chosen(state: TrainingState, chosen: Mapping[str, Any]) -> None:
    """Records settings that are chosen from the text where they are null.

    Args:
        state: The state of the training.
        chosen: The settings by name; null where the caller made the batches without them.

    Raises:
        InputError: The state that was read has others.
    """
    state.fingerprint["chosen"] = {**state.fingerprint.get("chosen", {}), **chosen}
    if not state.saved_fingerprint:
        return
    before = state.saved_fingerprint.get("chosen")  # None in old states, where all were set.
    if before is None:
        before = _chosen(Config.from_dict(state.saved_fingerprint["config"]).to_dict())
    # A cosine schedule ends with the last epoch.
    free = {"epochs"} if chosen.get("schedule") == "inverse_square_root" else set()
    _check_equal(state, before, chosen, free | _nulls(chosen))


def digests_of(tokenizers: tuple[Any, Any]) -> dict[str, str]:
    """Returns the SHA-256 of the tokenizer, and that of the target's if it is another."""
    source, target = tokenizers
    digests = {"tokenizer": source.sha256}
    return digests if target is source else {**digests, "target_tokenizer": target.sha256}


def _compared(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: value for section in _COMPARED for name, value in sections[section].items()}


def _chosen(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the settings that `fitting.defaults` chooses where they are null."""
    return {
        name: values[name] for values in sections.values() for name in _CHOSEN if name in values
    }


def _nulls(values: Mapping[str, Any]) -> set[str]:
    return {name for name, value in values.items() if value is None}


def _check_equal(
    state: TrainingState, before: Mapping[str, Any], now: Mapping[str, Any], free: set[str]
) -> None:
    for name, value in now.items():
        if before.get(name, value) != value and name not in free:
            raise InputError(
                f"{state.path} is of a training with {name}={before[name]!r}; got {name}={value!r}."
            )
