"""Scores a causal language model against a unigram and a bigram model.

    python -m training.causal_lm.evaluate RUN --text FILE... --on FILE

`--text` is the training text, which the unigram and the bigram model are counted on. All three
predict every token of the other file but the end of each line, from the tokens to the left of it:
of those the bigram model sees one, and the language model all in the line.
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
from ktransformer.tasks import TextGenerator, load
from ktransformer.text import PackedBatches
from training.masked_lm.baselines import Bigrams, Targets
from training.masked_lm.evaluate import parse_arguments, read_text
from training.programs import exit_status


def main() -> int:
    """Runs the evaluation; returns the exit status."""
    options = parse_arguments(__doc__)
    return exit_status("evaluate", lambda: evaluate(options))


def evaluate(options: argparse.Namespace) -> None:
    """Reads the model and the texts and prints the comparison.

    Raises:
        InputError: A file cannot be read, or the folder holds another kind of model.
    """
    generator = load(options.run)
    if not isinstance(generator, TextGenerator):
        raise InputError(f"{options.run} holds no causal language model.")
    print(comparison(generator, read_text(options.text, at_least=2), read_text([options.on])))


def comparison(generator: TextGenerator, training: Sequence[str], lines: Sequence[str]) -> str:
    """Scores the three on the same tokens of `lines`; a Markdown table.

    Raises:
        InputError: No line is short enough for the model.
    """
    tokenizer, longest = generator.tokenizer, generator.model.max_length
    encoded = zip(lines, tokenizer.encode_lines(lines), strict=True)
    read = [(line, ids) for line, ids in encoded if len(ids) <= longest]
    if not read:
        raise InputError(f"No line has at most max_length={longest} tokens.")
    words, texts = sum(len(line.split()) for line, _ in read), [ids for _, ids in read]
    targets = Targets.every(texts)
    bigrams = Bigrams(tokenizer.encode_lines(training), tokenizer.vocabulary_size)
    losses, right = predictions(generator, texts)
    rows = {**bigrams.scores(targets), "causal language model": (losses, right)}
    return "\n".join(
        [
            f"| {len(losses):,} tokens | perplexity of a token | of a word | accuracy |",
            "| --- | --- | --- | --- |",
            *(
                f"| {name} | {np.exp(loss.mean()):.1f} | {np.exp(loss.sum() / words):.1f} "
                f"| {hits.mean():.3f} |"
                for name, (loss, hits) in rows.items()
            ),
        ]
    )


def predictions(
    generator: TextGenerator, texts: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Has the model predict every token but the ends.

    Returns:
        The cross-entropy of each token in nats, and whether it was the best guess, both `[N]`.
    """
    model, special = generator.model, generator.tokenizer.special_ids
    batches = PackedBatches(
        texts,
        batch_tokens=max(4096, model.max_length),
        max_length=model.max_length,
        shuffle=False,
        special_ids=special,
    )
    losses, right = [], []
    for ids, labels in batches.epoch(0):
        logits = model(ids, training=False)
        chosen = (labels != special.pad) & (labels != special.end)
        loss = ops.convert_to_numpy(smoothed_cross_entropy(labels, logits))
        losses.append(loss[chosen])
        right.append((ops.convert_to_numpy(ops.argmax(logits, axis=-1)) == labels)[chosen])
    return np.concatenate(losses), np.concatenate(right)


if __name__ == "__main__":
    sys.exit(main())
