"""The `ktransformer` command line: runs a command and turns errors into exit statuses.

Results go to stdout, progress to stderr. TensorFlow is imported only when a command runs, so that
`--help` answers at once: what a command's file imports at its top must not need it.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

from ktransformer._version import __version__
from ktransformer.cli.completion import add_completion
from ktransformer.cli.options import HelpFormatter, Parser, indent
from ktransformer.cli.progress import log_to_stderr
from ktransformer.errors import InputError, memory_sentence, printable
from ktransformer.runtime.allocator import keep_freed_memory
from ktransformer.runtime.backend import backend_message, chosen_backend
from ktransformer.runtime.memory_errors import memory_errors
from ktransformer.runtime.noise import quiet_stderr, set_log_level, start_litert, without_packages

# Each is a module of this package with HELP, EXAMPLE, add_arguments(parser) and run(options);
# one that may run without TensorFlow also has needs_tensorflow(options).
GROUPS = {
    "make a model": ("clean", "train", "import", "distill", "prune", "extend"),
    "use it": ("info", "translate", "evaluate", "score", "serve"),
    "take it elsewhere": ("export", "verify"),
}
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
_MODULES = {"import": "import_model"}  # A word of Python cannot be the name of a module.
_EXAMPLE = """\
from your text to a served translator:
  ktransformer train --source train.en --target train.de --output runs/en-de
  echo 'A dog runs.' | ktransformer translate runs/en-de
  ktransformer export runs/en-de --format tflite --output en-de.tflite
  ktransformer serve en-de=en-de.tflite

ktransformer COMMAND --help shows the options of a command, their defaults and an example."""


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands; options have `command` and `run_command`."""
    modules = {
        name: importlib.import_module(f"ktransformer.cli.{_MODULES.get(name, name)}")
        for name in COMMANDS
    }
    parser = Parser(
        prog="ktransformer",
        usage="ktransformer [--help] [--version] [--print-completion SHELL] COMMAND ...",
        description="Train, use and export text-to-text Transformers.",
        epilog=f"{_list_commands(modules)}\n{_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ktransformer {__version__}")
    add_completion(parser)
    # The epilog lists them in groups, which argparse does not.
    commands = parser.add_subparsers(metavar="COMMAND", help=argparse.SUPPRESS, prog="ktransformer")
    for name, module in modules.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=f"{module.HELP[0].upper()}{module.HELP[1:]}.",
            formatter_class=HelpFormatter,
        )
        module.add_arguments(command)
        command.epilog = f"{command.epilog or ''}\n\nexample:\n{indent(module.EXAMPLE)}".strip()
        command.set_defaults(command=name, run_command=module.run)
        command.set_defaults(needs_tensorflow=getattr(module, "needs_tensorflow", lambda _: True))
    return parser


def _list_commands(modules: Mapping[str, ModuleType]) -> str:
    width = max(map(len, modules))
    return "\n".join(
        f"{group}:\n" + "".join(f"  {name:{width}}  {modules[name].HELP}\n" for name in names)
        for group, names in GROUPS.items()
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command line; None for the process's own.

    Returns:
        The exit status: 0, also where no command is given, which prints the help; 1 where `verify`
        finds too great a difference; 2 for an error that the user can fix; 130 after Ctrl-C.
    """
    parser = make_parser()
    options = parser.parse_args(arguments)
    if not hasattr(options, "command"):
        parser.print_help()
        return 0
    set_log_level()
    if options.command == "train":
        keep_freed_memory()
    log_to_stderr()
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        return 2 if sys.stderr is None else _fail("A standard stream is closed.")
    # Texts come in as UTF-8, whatever the locale; what a file is called may be none.
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)
    try:
        with memory_errors():
            status = _run(options)
    except (InputError, ImportError) as error:
        return _fail(str(error))
    except BrokenPipeError:  # The reader of our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'Writing the output'}: {error.strerror or error}.")
    except MemoryError as error:
        return _fail(memory_sentence(error))
    except KeyboardInterrupt:
        return _fail("Interrupted; nothing is left half written.", status=130)
    return status


def _run(options: argparse.Namespace) -> int:
    if options.command == "train" and chosen_backend() == "jax":
        # Keras imports TensorFlow if it is installed; a process of its own uses it.
        with without_packages("tensorflow", "tensorflow_text"):
            with without_packages("sklearn", "matplotlib"):
                importlib.import_module("keras")
            status: int = options.run_command(options) or 0
        return status
    if chosen_backend() != "tensorflow":
        raise InputError(backend_message("the command"))
    if not options.needs_tensorflow(options):
        return _run_command(options)
    # Keras imports these if they are installed, for wrappers and plots: a third of the start.
    with quiet_stderr(), without_packages("sklearn", "matplotlib", "pandas", "pyarrow"):
        import ktransformer.tasks.translator  # noqa: F401
    return _run_command(options)


def _run_command(options: argparse.Namespace) -> int:
    start_litert()
    status: int = options.run_command(options) or 0
    sys.stdout.flush()
    return status


def _fail(sentence: str, status: int = 2) -> int:
    print(f"ktransformer: {printable(sentence)}", file=sys.stderr)
    return status
