"""Measures `ktransformer serve` against the bare engine and CTranslate2 behind FastAPI.

    make benchmark-serving RUN=runs/multi30k SOURCE=test.en [OPTIONS="--callers 1 64"]

RUN is a trained run, SOURCE texts, one a line. The run is exported as a .tflite, a SavedModel and a
CTranslate2 folder. All servers are up all the time, and one of them has callers at a time, in
turns; the callers take processor time of the same machine. Writes a table to `--output`.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from export.benchmark.machine import describe
from ktransformer.engines import load_engine, translate_lines

PEER = Path(".peers/vs/bin/python")
BARE = "the bare engine (.tflite), no HTTP"
OURS = "`ktransformer serve`, .tflite"
OUR_SAVED_MODEL = "`ktransformer serve`, SavedModel"
CTRANSLATE2 = "CTranslate2 behind FastAPI"
Rows = dict[str, dict[int, list[dict[str, float]]]]  # By server and number of callers, the rounds.


def main() -> int:
    """Runs the measurement; returns the exit status."""
    options = make_parser().parse_args()
    texts = options.source.read_text(encoding="utf-8").splitlines()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = load_engine(export(options, folder, "tflite"), threads=1, concurrency=2)
        servers = {
            OURS: serve_ours(folder / "model.tflite"),
            OUR_SAVED_MODEL: serve_ours(export(options, folder, "saved_model")),
            CTRANSLATE2: serve_peer(
                export(options, folder, "ctranslate2"), options.run, options.beam_size
            ),
        }
        chosen = {name: servers[name] for name in servers if name in options.servers}
        urls = {name: stack.enter_context(server) for name, server in chosen.items()}
        rows = measure(urls, engine, texts, options)
        lines = [*to_table(rows, options.callers)]
        if options.memory_minutes:
            lines += ["", *watch_memory(urls[OURS], texts, options)]
    text = "\n".join([f"{describe()}, {time.strftime('%Y-%m-%d')}", "", *lines, ""])
    options.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    names = [OURS, OUR_SAVED_MODEL, CTRANSLATE2]
    parser = argparse.ArgumentParser(description="Measure servers of one model.")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--source", type=Path, required=True, metavar="FILE")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 64, 256], metavar="N")
    parser.add_argument("--seconds", type=float, default=8, metavar="S", help="of a turn")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--beam-size", type=int, default=4, metavar="K")
    parser.add_argument("--servers", nargs="+", choices=names, default=names)
    parser.add_argument("--memory-minutes", type=float, default=0, metavar="M")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.md")
    return parser


def export(
    options: argparse.Namespace, folder: Path, form: str, name: str = "model", *more: str
) -> Path:
    """Exports the run; returns the file or folder."""
    endings = {"tflite": ".tflite", "ctranslate2": ".ct2"}
    output = folder / f"{name}{endings.get(form, '')}"
    line = [sys.executable, "-m", "ktransformer", "export", options.run, "--output", output]
    forms = [] if form == "saved_model" else ["--format", form]
    beam = ["--beam-size", str(options.beam_size)]
    subprocess.run([*line, *forms, *beam, *more], check=True)
    return output


def free_port() -> int:
    """Returns a port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def serve(line: list[object], port: int) -> Iterator[str]:
    """Starts a server, which says on a line that it is ready; yields its URL."""
    process = subprocess.Popen([*map(str, line)], stdout=subprocess.PIPE, text=True)
    try:
        if not process.stdout.readline():
            raise RuntimeError(f"{line} did not start.")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def serve_ours(model: Path) -> contextlib.AbstractContextManager[str]:
    """Starts our server."""
    port = free_port()
    line = [sys.executable, "-m", "ktransformer", "serve", f"en-de={model}", "--port", port]
    return serve([*line, "--threads", 2], port)


def serve_peer(model: Path, run: Path, beam: int) -> contextlib.AbstractContextManager[str]:
    """Starts CTranslate2's."""
    port = free_port()
    program = Path(__file__).with_name("ctranslate2_server.py")
    return serve([PEER, program, model, run / "tokenizer.model", port, beam], port)


def measure(
    urls: dict[str, str], engine: object, texts: list[str], options: argparse.Namespace
) -> Rows:
    """Measures servers with each number of callers, in turns; a first round is not counted."""
    rows: Rows = {}
    for round_number in range(options.rounds + 1):
        for callers in options.callers:
            turns = [*urls, BARE] if round_number % 2 else [BARE, *reversed(urls)]
            for name in turns:
                found = (
                    run_bare(engine, texts, options.seconds)
                    if name == BARE
                    else run_callers(urls[name], callers, options.seconds, texts)
                )
                print(f"round {round_number}, {callers} callers, {name}: {found}", file=sys.stderr)
                if round_number:
                    rows.setdefault(name, {}).setdefault(callers, []).append(found)
    return rows


def run_bare(engine: object, texts: list[str], seconds: float) -> dict[str, float]:
    """Translates texts in a loop, in batches of like length."""
    started, count = time.monotonic(), 0
    while (took := time.monotonic() - started) < seconds:
        count += len(translate_lines(engine, texts))
    return {"rate": count / took}


def run_callers(url: str, callers: int, seconds: float, texts: list[str]) -> dict[str, float]:
    """Returns what `callers.py` says of so many callers."""
    line = [sys.executable, "-m", "export.benchmark.serving.callers", url]
    found = subprocess.run(
        [*line, str(callers), str(seconds)],
        input="\n".join(texts),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


def to_table(rows: Rows, callers: list[int]) -> Iterator[str]:
    """Yields a table: medians of the rounds, and the rate as a share of the bare engine's."""
    yield "| server | callers | texts/s | of the bare engine | p50 ms | p99 ms | failed |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    bare = statistics.median(each["rate"] for found in rows[BARE].values() for each in found)
    yield f"| {BARE} | | {bare:.1f} | 1.00 | | | |"
    for name in (name for name in rows if name != BARE):
        for count in callers:
            found = rows[name][count]
            rate, p50, p99 = (
                statistics.median(each[key] for each in found) for key in ("rate", "p50", "p99")
            )
            failed = sum(each["failed"] for each in found)
            yield (
                f"| {name} | {count} | {rate:.1f} | {rate / bare:.2f} | {1000 * p50:.0f} | "
                f"{1000 * p99:.0f} | {failed:.0f} |"
            )


def watch_memory(url: str, texts: list[str], options: argparse.Namespace) -> Iterator[str]:
    """Asks with 64 callers, and yields the memory of our servers' replicas by the minute."""
    yield "| minute | resident memory of our replicas, MB |"
    yield "| --- | --- |"
    for minute in range(1, int(options.memory_minutes) + 1):
        run_callers(url, 64, 60, texts)
        yield f"| {minute} | {sum(replica_memory()):.0f} |"


def replica_memory() -> list[float]:
    """Returns the resident memory of each replica that this program has started, in MB."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and b"ray::ServeReplica" in (entry / "cmdline").read_bytes():
                pages = int((entry / "statm").read_text().split()[1])
                found.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return found


if __name__ == "__main__":
    sys.exit(main())
