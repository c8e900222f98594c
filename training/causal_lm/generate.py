"""Continues the prompts of stdin, a line each, with a causal language model.

    echo "two young" | python -m training.causal_lm.generate RUN
    echo "two young" | python -m training.causal_lm.generate RUN --seed 1 --top-p 0.9

RUN is the folder that `train.py` wrote. With `--seed` the tokens are drawn, else they are searched
for. The texts, each with its prompt, go to stdout, a line each; an empty line gives a text from its
start.
"""

import argparse
import sys

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

from ktransformer.errors import InputError
from ktransformer.tasks import TextGenerator, load
from training.programs import exit_status

_SETTINGS = {
    "beam_size": (int, "places of the beam; 1 is greedy search"),
    "temperature": (float, "with --seed: divides the logits"),
    "top_k": (int, "with --seed: draws from so many most probable tokens; 0 for all"),
    "top_p": (float, "with --seed: draws from the most probable tokens that reach it"),
    "min_p": (float, "with --seed: least probability, as a share of the best token's"),
    "repetition_penalty": (float, "lowers the logits of tokens that the text contains"),
    "max_new_tokens": (int, "the most tokens of a continuation"),
}


def main() -> int:
    """Runs the program; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", metavar="RUN", help="folder of a trained language model")
    parser.add_argument("--seed", type=int, help="draws the tokens; the same seed, the same texts")
    for name, (kind, words) in _SETTINGS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=words)
    options = parser.parse_args()
    return exit_status("generate", lambda: generate(options))


def generate(options: argparse.Namespace) -> None:
    """Continues each line of stdin as soon as it is read.

    Raises:
        InputError: The folder holds another kind of model, or an option is out of its range.
    """
    generator = load(options.run)
    if not isinstance(generator, TextGenerator):
        raise InputError(f"{options.run} holds no causal language model.")
    given = {name: getattr(options, name) for name in _SETTINGS}
    settings = {name: value for name, value in given.items() if value is not None}
    for line in sys.stdin:
        (text,) = generator.generate([line.rstrip("\n")], seed=options.seed, **settings)
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
