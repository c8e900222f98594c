"""The rule that chooses null settings from the size of the text.

| setting | null means |
| --- | --- |
| `vocabulary_size` | 4 pieces for each square root of the text's characters, both sides together, as the words of a text grow (Heaps' law); at least 300 and twice its different characters, at most 8,000; without `shared_vocabulary` of the target's text alone |
| `source_vocabulary_size` | without `shared_vocabulary`: `vocabulary_size`, or, where that is null, the same of the source's text |
| `batch_tokens` | 3 tokens for each square root of an epoch's, as a power of two from 512 to 4,096, and at least `max_length` |
| `epochs` | as many as make some 4,000 updates, from 3 to 100 |
| `optimizer`, `schedule`, `learning_rate` | muon, cosine and 0.004, times the root of 128 / `d_model` for a wider model; where one of the three is set, what is not is adam, inverse_square_root and 0.002, and adam where several TensorFlow devices share a batch |
| `warmup_steps` | a tenth of all updates, at most 1,000 |
| `average_checkpoints` | a tenth of the epochs, at most 5 |
| `max_repeats` | 3, or what the targets of the training need: `repeats.choose_max_repeats` |

Settings that are not null stay as they are, except that a warm-up of more than a quarter of all
updates is cut to that, with a warning. Measured in training/defaults/README.md. A training that
starts from a run has its own epochs, optimizer, schedule and learning rate: `choose_tuning`.
"""  # noqa: E501

import dataclasses
import math

from ktransformer.config import DataConfig, TrainingConfig
from ktransformer.errors import InputError

WARMUP_SHARE = 0.25
"""The largest share of the updates that the warm-up takes."""
_PIECES_PER_ROOT, _LEAST_PIECES, _MOST_PIECES = 4.0, 300, 8000
_TOKENS_PER_ROOT, _LEAST_BATCH, _MOST_BATCH = 3.0, 512, 4096
_UPDATES, _LEAST_EPOCHS, _MOST_EPOCHS = 4000, 3, 100
_CHOSEN_WARMUP_SHARE, _MOST_WARMUP = 0.1, 1000
_AVERAGED_SHARE, _MOST_AVERAGED = 0.1, 5
_PEAK, _PEAK_WIDTH = 0.004, 128
_FIXED = ("adam", "inverse_square_root", 0.002)
_TUNED_EPOCHS, _TUNED_PEAK, _TUNED_LORA_PEAK = 5, 0.001, 0.004
_FIXED_EPOCHS = 20  # For `compile_model` without `steps_per_epoch`.


@dataclasses.dataclass(frozen=True)
class Fit:
    """The settings of a training that depend on its length, none of them null."""

    epochs: int
    optimizer: str
    learning_rate: float
    schedule: str
    warmup_steps: int
    average_checkpoints: int


def choose_vocabulary_size(data: DataConfig, characters: int, alphabet: int) -> int:
    """Returns the number of pieces for a text.

    Args:
        data: Its `vocabulary_size` is returned unless null.
        characters: Number of characters, of both sides if they share the vocabulary.
        alphabet: Number of different characters.
    """
    if data.vocabulary_size is not None:
        return data.vocabulary_size
    pieces = round(_PIECES_PER_ROOT * math.sqrt(characters))
    return max(min(pieces, _MOST_PIECES), _LEAST_PIECES, 2 * alphabet)


def choose_batch_tokens(data: DataConfig, tokens: int, max_length: int) -> int:
    """Returns the tokens of a batch for a text.

    Args:
        data: Its `batch_tokens` is returned unless null.
        tokens: Tokens of an epoch, counting the longer side of each pair.
        max_length: The longest side, in tokens.
    """
    if data.batch_tokens is not None:
        return data.batch_tokens
    power = round(math.log2(_TOKENS_PER_ROOT * math.sqrt(max(tokens, 1))))
    return max(min(2**power, _MOST_BATCH), _LEAST_BATCH, max_length)


def choose_fit(
    options: TrainingConfig, *, steps_per_epoch: int | None, d_model: int, can_use_muon: bool = True
) -> Fit:
    """Returns the settings that depend on the length of a training.

    Args:
        options: Settings that are not null are returned as they are.
        steps_per_epoch: Batches of an epoch. None if unknown: the schedule then has no end, and
            the other settings are those of a long training.
        d_model: D, the model's width.
        can_use_muon: Whether Muon runs on the devices.
    """
    fixed = (options.optimizer, options.schedule, options.learning_rate) != (None, None, None)
    if fixed or steps_per_epoch is None:
        optimizer, schedule, learning_rate = _FIXED
    else:
        optimizer, schedule = "muon" if can_use_muon else "adam", "cosine"
        learning_rate = min(_PEAK, _PEAK * math.sqrt(_PEAK_WIDTH / d_model))
        learning_rate = learning_rate if can_use_muon else _FIXED[2]
    epochs, warmup = options.epochs or _FIXED_EPOCHS, _MOST_WARMUP
    if steps_per_epoch is not None:
        wanted = round(_UPDATES * options.accumulate_batches / steps_per_epoch)
        epochs = options.epochs or max(min(wanted, _MOST_EPOCHS), _LEAST_EPOCHS)
        updates = count_updates(epochs, steps_per_epoch, options.accumulate_batches)
        warmup = max(min(round(_CHOSEN_WARMUP_SHARE * updates), _MOST_WARMUP), 1)
    averaged = max(min(int(_AVERAGED_SHARE * epochs), _MOST_AVERAGED), 1)
    return Fit(
        epochs=epochs,
        optimizer=options.optimizer or optimizer,
        learning_rate=options.learning_rate or learning_rate,
        schedule=options.schedule or schedule,
        warmup_steps=options.warmup_steps or warmup,
        average_checkpoints=options.average_checkpoints or averaged,
    )


def choose_tuning(options: TrainingConfig, d_model: int) -> TrainingConfig:
    """Returns the settings of a training that starts from a run.

    Null means 5 epochs of adam with a cosine and a peak of 0.001, or 0.004 with LoRA, times the
    root of 128 / `d_model` for a wider model.

    Args:
        options: Settings that are not null are returned as they are.
        d_model: D, the model's width.
    """
    peak = _TUNED_LORA_PEAK if options.lora_rank else _TUNED_PEAK
    peak *= min(1.0, math.sqrt(_PEAK_WIDTH / d_model))
    return dataclasses.replace(
        options,
        epochs=options.epochs or _TUNED_EPOCHS,
        optimizer=options.optimizer or "adam",
        schedule=options.schedule or "cosine",
        learning_rate=options.learning_rate or peak,
    )


def longest_warmup(updates: int) -> int:
    """Returns the longest warm-up of a training, in updates."""
    return max(int(WARMUP_SHARE * updates), 1)


def count_updates(epochs: int, steps_per_epoch: int, accumulate_batches: int) -> int:
    """Returns the updates of a whole training, at least 1.

    Raises:
        InputError: More batches are accumulated than there are.
    """
    batches = epochs * steps_per_epoch
    if accumulate_batches > batches:
        raise InputError(
            f"accumulate_batches must be at most the training's {batches} batches, or nothing is "
            f"learned; got {accumulate_batches}."
        )
    return batches // accumulate_batches
