"""The `ktransformer` command."""

from ktransformer.cli.command_line import main as main
