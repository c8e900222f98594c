"""Scores a masked language model against a unigram and a bigram model.

    python -m training.masked_lm.evaluate RUN --text FILE... --on FILE

`--text` is the training text, which the unigram and the bigram model are counted on. All three
predict the same masked tokens of the other file, drawn ten times over. The two baselines are given
the true piece to the left, also where it is masked for the language model.
"""

import argparse
import sys
from collections.abc import Sequence

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

import numpy as np
from keras import ops

from ktransformer.errors import InputError
from ktransformer.losses import smoothed_cross_entropy
from ktransformer.tasks import MaskFiller
from ktransformer.text import PAD_ID, START_ID, MaskedBatches, read_lines
from ktransformer.text.line_limits import is_empty
from training.masked_lm.baselines import Bigrams, Targets
from training.masked_lm.language_model import load
from training.programs import exit_status

DRAWS = 10
"""How many times tokens to mask are drawn from the text."""


def main() -> int:
    """Runs the evaluation; returns the exit status."""
    options = parse_arguments(__doc__)
    return exit_status("evaluate", lambda: evaluate(options))


def parse_arguments(description: str) -> argparse.Namespace:
    """Reads the command line of an evaluation of a language model."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("run", metavar="RUN", help="folder of a trained language model")
    parser.add_argument("--text", nargs="+", required=True, metavar="FILE", help="training text")
    parser.add_argument("--on", required=True, metavar="FILE", help="text to score on")
    return parser.parse_args()


def evaluate(options: argparse.Namespace) -> None:
    """Reads the model and the texts and prints the comparison."""
    filler = load(options.run)
    print(comparison(filler, read_text(options.text, at_least=2), read_text([options.on])))


def read_text(paths: Sequence[str], *, at_least: int = 1) -> list[str]:
    """Reads the lines that hold some text.

    Raises:
        InputError: A file cannot be read, or there are fewer such lines than `at_least`.
    """
    lines = [line for line in read_lines(paths) if not is_empty(line)]
    if len(lines) < at_least:
        raise InputError(f"{', '.join(paths)} must hold at least {at_least} lines of text.")
    return lines


def comparison(filler: MaskFiller, training: Sequence[str], lines: Sequence[str]) -> str:
    """Scores the three on the same masked tokens of `lines`; a Markdown table.

    Raises:
        InputError: No line is short enough for the model.
    """
    tokenizer, model = filler.tokenizer, filler.model
    batches = MaskedBatches(
        tokenizer.encode_lines(lines),
        special_ids=tokenizer.special_ids,
        batch_tokens=max(4096, model.max_length),
        max_length=model.max_length,
    )
    targets, losses, predicted = predictions(filler, batches)
    bigrams = Bigrams(tokenizer.encode_lines(training), tokenizer.vocabulary_size)
    rows = {
        **bigrams.scores(targets),
        "masked language model": (losses, predicted == targets.token),
    }
    return "\n".join(
        [
            f"| {len(targets.token):,} masked tokens | perplexity | accuracy |",
            "| --- | --- | --- |",
            *(
                f"| {name} | {np.exp(loss.mean()):.1f} | {hits.mean():.3f} |"
                for name, (loss, hits) in rows.items()
            ),
        ]
    )


def predictions(
    filler: MaskFiller, batches: MaskedBatches
) -> tuple[Targets, np.ndarray, np.ndarray]:
    """Has the model predict the masked tokens of some epochs.

    Returns:
        The tokens, the model's cross-entropy for each in nats, and its best guess, both `[N]`.
    """
    parts = []
    for inputs, labels in (batch for draw in range(DRAWS) for batch in batches.epoch(draw)):
        logits = filler.model(inputs, training=False)
        losses = ops.convert_to_numpy(smoothed_cross_entropy(labels, logits))
        best = ops.convert_to_numpy(ops.argmax(logits, axis=-1))
        chosen = labels != PAD_ID
        left = left_of(inputs["ids"], inputs["positions"], labels)
        parts.append([array[chosen] for array in (left, labels, losses, best)])
    left, token, losses, best = map(np.concatenate, zip(*parts, strict=True))
    return Targets(left, token), losses, best


def left_of(ids: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Finds the true piece to the left of each position `[B, M]`: the start token at the first."""
    rows, columns = np.nonzero(labels != PAD_ID)
    whole = np.pad(ids, ((0, 0), (1, 0)), constant_values=START_ID)
    whole[rows, positions[rows, columns] + 1] = labels[rows, columns]
    return np.take_along_axis(whole, positions, axis=1)


if __name__ == "__main__":
    sys.exit(main())
