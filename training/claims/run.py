"""Runs the experiments on the claims and writes docs/claims.md.

    make claims

or `python -m training.claims.run` from the repository's root; `--help` lists the options.

Each experiment runs in its own process with one thread, two at a time; those that measure time run
alone, before the others. A successful experiment replaces `docs/claims/NAME.json` and `NAME.png`.
`docs/claims.md` is written from all JSON files in `docs/claims`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # Before TensorFlow is imported.

from ktransformer.errors import InputError
from ktransformer.files import check_folder
from ktransformer.runtime.noise import quiet_stderr
from training.claims import experiments, page
from training.programs import exit_status

ROOT = Path(__file__).parents[2]
MEASURE = ("-m", "training.claims.measure")
AT_A_TIME = 2


def main() -> int:
    """Runs the program; returns the exit status."""
    options = parse_arguments()
    output = Path(options.output or ("runs" if options.quick else "docs"))
    names = options.names or list(experiments.EXPERIMENTS)
    return exit_status("claims", lambda: measure_claims(names, output, options))


def measure_claims(names: Sequence[str], output: Path, options: argparse.Namespace) -> int:
    """Runs experiments, or only redraws their pictures, and writes the page.

    Returns:
        The exit status: 1 if an experiment failed.
    """
    check_names(names)
    check_folder(output / "claims")
    with quiet_stderr():
        modules = [experiments.load(name) for name in names]
    failed = 0
    if options.page_only:
        page.redraw(output, names)
    else:
        failed = run_all(modules, options.quick, output)
    page.write(output)
    return 1 if failed else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the claims and write docs/claims.md.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"experiments to run, by default all: {experiments.EXPERIMENTS}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny settings that take seconds and prove nothing"
    )
    parser.add_argument(
        "--output", metavar="DIR", help="output folder, by default docs, or runs with --quick"
    )
    parser.add_argument(
        "--page-only", action="store_true", help="rewrite pictures and page without measuring"
    )
    return parser.parse_args()


def check_names(names: Sequence[str]) -> None:
    """Raises an `InputError` for an unknown experiment."""
    for name in names:
        if name not in experiments.EXPERIMENTS:
            known = ", ".join(experiments.EXPERIMENTS)
            raise InputError(f"There is no experiment {name!r}; choose from {known}.")


def run_all(modules: Sequence, quick: bool, output: Path) -> int:
    """Runs experiments, first and alone those that measure time; prints one line for each.

    Returns:
        The number of failures.
    """
    start = time.monotonic()
    serial = [module.NAME for module in modules if module.SERIAL]
    others = [module.NAME for module in modules if not module.SERIAL]
    failed = 0
    for names, at_a_time in ((serial, 1), (others, AT_A_TIME)):
        for name, failure in run_processes(names, quick, output, at_a_time):
            failed += failure is not None
            report(name, failure, output)
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    print(f"{len(modules)} experiments in {minutes} min {seconds} s, {failed} failed", flush=True)
    return failed


def report(name: str, failure: str | None, output: Path) -> None:
    """Prints the verdict of an experiment, or its failure."""
    if failure is None:
        record = page.read_record(output, name)
        verdict = experiments.load(name).conclude(record["measurements"]).sentence()
        print(f"{name}: {verdict} ({record['seconds']:.0f} s)", flush=True)
    else:
        print(f"claims: {name} failed and its earlier finding is kept: {failure}", file=sys.stderr)


def run_processes(
    names: Sequence[str], quick: bool, output: Path, at_a_time: int
) -> Iterator[tuple[str, str | None]]:
    """Runs each experiment in its own process, `at_a_time` of them at once.

    Yields:
        The name of each finished experiment, and the last line of its error or None.
    """
    waiting = list(names)
    running: dict[str, subprocess.Popen] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    name = waiting.pop(0)
                    running[name] = _start(name, quick, output, Path(folder, name))
                for name, process in list(running.items()):
                    if process.poll() is not None:
                        del running[name]
                        yield name, _failure(process, Path(folder, name))
                time.sleep(0.1)
        finally:
            for process in running.values():
                process.terminate()
                process.wait()


def _start(name: str, quick: bool, output: Path, errors: Path) -> subprocess.Popen:
    """Starts one experiment, with stderr redirected to a file."""
    command = [sys.executable, *MEASURE, name]
    command += ["--output", str(output.absolute()), *(["--quick"] * quick)]
    with errors.open("wb") as file:
        return subprocess.Popen(command, cwd=ROOT, stderr=file)


def _failure(process: subprocess.Popen, errors: Path) -> str | None:
    """Returns the last line of stderr of a failed process; None for a successful one."""
    if process.returncode == 0:
        return None
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {process.returncode}"


if __name__ == "__main__":
    sys.exit(main())
