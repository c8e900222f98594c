"""The data of a training: its text, tokenizers and batches, and the BLEU of its model.

All of it needs TensorFlow, whatever the backend that trains: `tensorflow_process` runs it beside a
training on JAX.
"""

import collections
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ktransformer.config import Config, DataConfig
from ktransformer.errors import InputError
from ktransformer.fitting.adapting import adapt
from ktransformer.fitting.bleu import BleuCallback
from ktransformer.fitting.encoded_data import EncodedData
from ktransformer.fitting.guiding import guide
from ktransformer.fitting.mixture import Mixture
from ktransformer.fitting.pair_batches import make_batches
from ktransformer.fitting.repeats import choose_max_repeats
from ktransformer.fitting.training_text import (
    InMemoryText,
    MixedText,
    StreamedText,
    digest_text,
    mix_batches,
    with_span_symbols,
)
from ktransformer.fitting.vocabulary import Tokenizers
from ktransformer.scores import score_texts
from ktransformer.tasks import Translator
from ktransformer.text import ParallelFiles, ParallelText, Tokenizer
from ktransformer.text.batches import EpochBatches
from ktransformer.text.span_symbols import COPIED_BY_DEFAULT
from ktransformer.text.stored_tokenizer import StoredTokenizer

_log = logging.getLogger(__name__)
Texts = tuple[Mixture, ParallelText | None]
"""The training texts, and the pairs to validate on."""


class TrainingData:
    """The data of a training.

    Args:
        read: Returns the texts.
        config: The settings.
        folder: The training's folder; streamed text is written there, encoded.
        reuse: Whether to reuse encoded text that is there.
        devices: How many devices share every batch.
        encode_on: See `StreamedText`.

    Attributes:
        fingerprint: The digests of the texts and their weights, by name.
        dropped: The number of pairs that cleaning dropped, as a part of the history.

    Raises:
        InputError: The text cannot be read or does not fit the settings.
    """

    def __init__(
        self,
        read: Callable[[], Texts],
        config: Config,
        folder: Path,
        *,
        reuse: bool,
        devices: int = 1,
        encode_on: str | None = None,
    ) -> None:
        mixture, self._validation = read()
        if self._validation is None and config.training.patience is not None:
            raise InputError("patience needs validation text to watch; got none.")
        text, *others = mixture.texts
        self._text: InMemoryText | StreamedText
        if isinstance(text, ParallelFiles):
            self._text = StreamedText(
                text, config, folder, reuse=reuse, devices=devices, encode_on=encode_on
            )
        else:
            if encode_on is not None:
                _log.info(
                    "Ray encodes only streamed text, of more than shard_pairs=%s pairs; this one "
                    "is encoded here.",
                    f"{config.data.shard_pairs:,}",
                )
            self._text = InMemoryText(text, config, devices=devices)
        self._mixed = [MixedText(other, config) for other in others]
        self._weights, self._devices = mixture.weights, devices
        self.fingerprint: dict[str, Any] = {
            **self._text.fingerprint,
            "validation": self._validation and digest_text(self._validation),
            "mix": ",".join(each.fingerprint for each in self._mixed) or None,
            "weights": mixture.weights and list(mixture.weights),
        }
        self.dropped = _dropped(self._text, *self._mixed)
        self._given = config.data
        self._encoded: EncodedData | None = None
        self._scorer: BleuCallback | None = None

    def describe(self) -> tuple[dict[str, Any], dict[str, list[float]]]:
        """Returns `fingerprint` and `dropped`."""
        return self.fingerprint, self.dropped

    def encode(self, tokenizers: Tokenizers | None) -> EncodedData:
        """Makes the batches.

        Args:
            tokenizers: The tokenizers of both sides; None to train them on the text.

        Raises:
            InputError: No pair is short enough, the text has too few pieces for a tokenizer, or the
                source's tokenizer lacks `tag`.
        """
        batches: EpochBatches
        others = [each.text for each in self._mixed]
        found, batches = self._text.encode(tokenizers, others)
        config = self._text.config
        _log_choice(self._given, config.data)
        if self._mixed:
            batches = mix_batches(
                batches, self._mixed, found, config, self._weights, devices=self._devices
            )
        validation: EpochBatches | None = None
        if self._validation is not None:
            validation = make_batches(
                "Validation text",
                found,
                with_span_symbols(self._validation, config),
                config,
                shuffle=False,
                devices=self._devices,
            )
        if config.decoding.max_repeats is None:
            repeats = choose_max_repeats(batches, found[1].special_ids.pad)
            config = config.replace({"max_repeats": repeats})
            _log.info("Chosen for the text: max_repeats=%s.", repeats)
        if config.data.copy_share and not config.decoding.copy:
            config = config.replace({"copy": (*COPIED_BY_DEFAULT, "unknown")})
        if config.training.guided_alignment:
            batches, validation = guide(batches, validation, found)
        if config.decoding.tag is not None:
            found[0].tag_id(config.decoding.tag)  # Raises now, not when the run is opened.
        self._encoded = EncodedData(
            config, found, batches, validation, self._facts(batches), **self._scoring(config)
        )
        return self._encoded

    def _facts(self, batches: EpochBatches) -> dict[str, str]:
        counts = [self._text.pairs, *(len(each.text) for each in self._mixed)]
        facts = {
            "pairs": " + ".join(f"{count:,}" for count in counts) + ", those too long included",
            "tokens of an epoch": f"{batches.tokens:,}, of the longer side of each pair",
            "SHA-256 of the training text": f"`{self.fingerprint['text']}`",
        }
        if self._validation is not None:
            facts["validation pairs"] = f"{len(self._validation):,}"
        return facts

    def _scoring(self, config: Config) -> dict[str, str]:
        if self._validation is None or not config.training.bleu_sentences:
            return {}
        count = min(config.training.bleu_sentences, len(self._validation))
        return {
            "scored": f"greedy translations of the first {count:,} validation pairs",
            "signature": score_texts(["a"], ["a"]).signature,
        }

    def encode_stored(
        self, tokenizers: tuple[StoredTokenizer, StoredTokenizer] | None
    ) -> EncodedData:
        """Makes the batches for another process, with tokenizers that need no TensorFlow."""
        known: Tokenizers | None = None
        if tokenizers is not None:
            known = _on_both(tokenizers, lambda stored: Tokenizer(stored.model))
        found = self.encode(known)
        stored = _on_both(found.tokenizers, lambda each: StoredTokenizer(each.model))
        return dataclasses.replace(found, tokenizers=stored)

    def bleu_callback(self, model: keras.Model) -> BleuCallback | None:
        """Returns the callback that scores translations of validation text, if there is any.

        Args:
            model: The model that is trained.

        Raises:
            ValueError: `encode` was not called before.
        """
        if self._encoded is None:
            raise ValueError("bleu_callback must follow encode; got no encoded text.")
        config, (source, target) = self._encoded.config, self._encoded.tokenizers
        # The texts of a training have their tags.
        greedy = dataclasses.replace(config.decoding, beam_size=1, tag=None)
        translator = Translator(model, source, greedy, target_tokenizer=target)
        if self._validation is None or not config.training.bleu_sentences:
            return None
        chosen = slice(0, config.training.bleu_sentences)
        return BleuCallback(
            translator, self._validation.sources[chosen], self._validation.targets[chosen]
        )

    def open_model(self, kind: type[keras.Model], settings: Mapping[str, Any]) -> bool:
        """Creates a model to score, for another process; returns whether there are pairs for it."""
        if self._encoded is None:
            raise ValueError("open_model must follow encode; got no encoded text.")
        self._model = kind.from_config(dict(settings))
        self._model.build()
        self._scorer = self.bleu_callback(self._model)
        adapt(self._model, self._encoded.config.training)
        return self._scorer is not None

    def score(self, weights: Sequence[np.ndarray]) -> dict[str, float]:
        """Returns the scores of the model of `open_model` with some weights."""
        if self._scorer is None:
            raise ValueError("score must follow open_model; got no model.")
        scores: dict[str, float] = {}
        self._model.set_weights(weights)
        self._scorer.on_epoch_end(0, scores)
        return scores


def _on_both(tokenizers: tuple[Any, Any], change: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Changes both tokenizers; one for both sides stays one."""
    source, target = tokenizers
    changed = change(source)
    return changed, changed if target is source else change(target)


def _dropped(*texts: InMemoryText | StreamedText | MixedText) -> dict[str, list[float]]:
    """Returns the number of pairs that cleaning dropped, of all texts, as a part of the history."""
    counts: collections.Counter[str] = collections.Counter()
    for text in texts:
        for reason, count in text.dropped.items():
            counts[f"dropped_{reason.replace(' ', '_')}"] += count
    return {name: [float(count)] for name, count in counts.items()}


def _log_choice(before: DataConfig, chosen: DataConfig) -> None:
    """Logs the settings of the data that were null and have been chosen."""
    values = dataclasses.asdict(chosen).items()
    words = [f"{name}={value}" for name, value in values if getattr(before, name) != value]
    if words:
        _log.info("Chosen for the size of the text: %s.", ", ".join(words))
