"""Fine-tunes a masked language model to tell sentences from such with two words swapped.

    python -m training.masked_lm.classify RUN --text FILE --validation FILE

Half of the lines have two neighbouring words swapped, which the program draws; the label is
whether. The same classifier is trained from the language model and from scratch, with three
seeds, and scored on the validation text.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

import keras
import numpy as np
import tensorflow as tf

from ktransformer.models import MaskedLanguageModel
from ktransformer.tasks import MaskFiller
from ktransformer.text import Tokenizer
from training.masked_lm.evaluate import read_text
from training.masked_lm.language_model import load
from training.masked_lm.settings import at_least_one
from training.programs import exit_status

SEEDS = (1, 2, 3)


class Classifier(keras.Model):
    """A linear layer on a language model's sentence vectors.

    Args:
        language_model: The model, trained or not; it is trained further.
        num_classes: How many classes there are.
        dropout: Probability of zeroing a feature of a sentence vector.
    """

    def __init__(
        self, language_model: MaskedLanguageModel, num_classes: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.language_model = language_model
        self.vector_dropout = keras.layers.Dropout(dropout)
        self.classes = keras.layers.Dense(num_classes)

    def call(self, ids: Any, training: bool | None = None) -> Any:
        vectors = self.language_model.embed(ids, training=training)
        return self.classes(self.vector_dropout(vectors, training=training))


def main() -> int:
    """Trains and scores; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="folder of a trained language model")
    parser.add_argument("--text", required=True, metavar="FILE", help="training text")
    parser.add_argument("--validation", required=True, metavar="FILE", help="validation text")
    parser.add_argument("--lines", type=at_least_one, default=3000, help="training lines to use")
    parser.add_argument("--epochs", type=at_least_one, default=5, help="passes over them")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="of Adam, constant")
    options = parser.parse_args()
    # The head that predicts masked tokens takes no part.
    warnings.filterwarnings("ignore", "Gradients do not exist")
    return exit_status("classify", lambda: classify(options))


def classify(options: argparse.Namespace) -> None:
    """Reads the model and the texts, trains, and prints the comparison."""
    filler = load(options.run)
    training = read_text([options.text])[: options.lines]
    print(compare(filler, training, read_text([options.validation]), options))


def compare(
    filler: MaskFiller,
    training: Sequence[str],
    validation: Sequence[str],
    options: argparse.Namespace,
) -> str:
    """Trains the classifier from both starts with every seed; a Markdown table."""
    parts = [
        as_arrays(filler.tokenizer, *swap_words(lines, seed=k), filler.model.max_length)
        for k, lines in enumerate((training, validation))
    ]
    rows = [
        f"| {len(training):,} lines, validation accuracy after {options.epochs} epochs | "
        + " | ".join(f"seed {seed}" for seed in SEEDS)
        + " | mean |",
        "| --- |" + " --- |" * (len(SEEDS) + 1),
    ]
    for start in ("from the language model", "from scratch"):
        scores = []
        for seed in SEEDS:
            keras.utils.set_random_seed(seed)
            model = type(filler.model).from_config(filler.model.get_config())
            model.build()
            if start == "from the language model":
                model.set_weights(filler.model.get_weights())
            scores.append(accuracy(Classifier(model, num_classes=2), *parts, options))
            print(f"{start}, seed {seed}: {scores[-1]:.3f}", file=sys.stderr)
        cells = [f"{score:.3f}" for score in (*scores, np.mean(scores))]
        rows.append(f"| {start} | {' | '.join(cells)} |")
    return "\n".join(rows)


def accuracy(
    classifier: Classifier,
    training: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    options: argparse.Namespace,
) -> float:
    """Trains a classifier and returns its share of right answers on the validation text."""
    classifier.compile(
        keras.optimizers.Adam(options.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    classifier.fit(*training, batch_size=64, epochs=options.epochs, verbose=0)
    return float(classifier.evaluate(*validation, batch_size=256, verbose=0)[1])


def swap_words(lines: Sequence[str], seed: int) -> tuple[list[str], list[int]]:
    """Swaps two neighbouring words, that differ, in every second line; says in which."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for number, line in enumerate(lines):
        words = line.split()
        places = [i for i in range(len(words) - 1) if words[i] != words[i + 1]]
        if number % 2 and places:
            i = int(random.choice(places))
            words[i], words[i + 1] = words[i + 1], words[i]
        texts.append(" ".join(words))
        labels.append(number % 2 if places else 0)
    return texts, labels


def as_arrays(
    tokenizer: Tokenizer, texts: list[str], labels: list[int], max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Encodes texts, `[B, T]`, padded to the longest; and the labels, `[B]`."""
    ids, _ = tokenizer.encode_dense(tf.constant(texts), max_length)
    return ids.numpy(), np.array(labels)


if __name__ == "__main__":
    sys.exit(main())
