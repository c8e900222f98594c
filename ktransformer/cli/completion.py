"""`ktransformer --print-completion SHELL`: the script that completes the command in a shell."""

import argparse
import importlib.util
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Adds `--print-completion`, which prints shtab's script and ends the command."""
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help="print what makes bash, zsh or tcsh complete this command; in ~/.bashrc: "
        'eval "$(ktransformer --print-completion bash)"',
    )


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any) -> None:
        if importlib.util.find_spec("shtab") is None:
            parser.error('completion needs shtab: pip install "ktransformer[completion]".')
        import shtab

        for action in parser._actions:  # What has no help is not completed.
            if isinstance(action, argparse._SubParsersAction):
                action.help = "command"
        print(shtab.complete(parser, shell=arguments[1]))
        parser.exit(0)
