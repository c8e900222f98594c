"""Dates as people write them, in 23 locales, to ISO 8601: the whole way in one recipe.

    make demo

or `python -m training.dates.demo` from the repository's root; `--help` lists the options.

Data: 50,000 pairs to train on, 500 for validation, 1,000 held out, made by `data.py`.
Hardware: two x86-64 cores, no GPU (Intel Xeon, 2026-11-29).
Time: README.md beside this file.
Score: exact match 0.997 on the 1,000 held-out dates.
"""

import argparse
import io
import subprocess
import sys
from pathlib import Path

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

from ktransformer.cli.progress import log_to_stderr
from ktransformer.config import Config, read_settings
from ktransformer.engines import LiteEngine, ModelEngine, draw_attention, translate_lines
from ktransformer.exporting import export_lite, export_saved_model
from ktransformer.files import new_file
from ktransformer.fitting import remove_checkpoints, train
from ktransformer.runtime.allocator import keep_freed_memory
from ktransformer.saving.run import check_run_path, save_run
from ktransformer.tasks import Translator
from ktransformer.text import ParallelText, read_parallel
from training.dates import data
from training.programs import exit_status

HERE = Path(__file__).parent
WANTED = 0.990
"""The exact match that the demo must reach."""
NEXT = """
What to try next, from here; a server needs Ray, which the third line installs:
  echo 'Dienstag, 3. März 2026' | .venv/bin/ktransformer translate {run}.tflite
  .venv/bin/ktransformer info {run}.tflite
  .venv/bin/pip install -qq --editable '.[ray]'
  .venv/bin/ktransformer serve {run}.tflite
  curl localhost:8000/translate -d q='3 de marzo de 2026' -d source=text -d target=iso
"""


def main() -> int:
    keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # In a pipe its lines keep their place.
    options = parse_arguments()
    log_to_stderr()
    return exit_status("demo", lambda: check_score(demo(options)))


def check_score(score: float) -> int:
    """Returns the exit status of a score."""
    if score < WANTED:
        print(f"The exact match, {score:.3f}, is below {WANTED:.3f}.", file=sys.stderr)
        return 1
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Learn to read dates of 23 locales, from data to an exported model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--output", default="runs/dates", metavar="RUN", help="the run's folder, made anew"
    )
    parser.add_argument("--pairs", type=int, default=50_000, metavar="N", help="pairs to train on")
    parser.add_argument(
        "--epochs", metavar="N", help="passes over them; None for as many as dates.yaml says"
    )
    return parser.parse_args()


def demo(options: argparse.Namespace) -> float:
    """Goes the whole way.

    Returns:
        The share of held-out dates that are translated without any error.
    """
    output = Path(options.output)
    config = Config().replace(read_settings(HERE / "dates.yaml"))
    if options.epochs is not None:
        config = config.replace({"epochs": options.epochs})
    check_run_path(output, overwrite=True)

    parts = make_data(options.pairs, beside(output, "data"))
    run = train(
        config, parts["train"], parts["validation"], checkpoints=beside(output, "checkpoints")
    )
    save_run(run, output, overwrite=True)
    remove_checkpoints(beside(output, "checkpoints"))
    print(f"The trained run: {output}")

    translator = Translator(
        run.model, run.tokenizer, run.config.decoding, target_tokenizer=run.target_tokenizer
    )
    test = parts["test"]
    outputs = translate(translator, test.sources)
    shown = one_of_each_script(test.sources)
    export(translator, shown, translate(translator, shown), beside(output, "export"))
    export_one_file(translator, test.sources, outputs, Path(f"{output}.tflite"))
    picture = beside(output, "attention.png")
    with new_file(picture) as temporary:
        temporary.write_bytes(draw_attention(translator, shown[0]))
    print(f"What the decoder looks at: {picture}")

    score = sum(map(str.__eq__, outputs, test.targets)) / len(outputs)
    print(NEXT.format(run=output))
    print(f"exact match {score:.3f} on {len(outputs)} held-out dates")
    return score


def beside(output: Path, name: str) -> Path:
    """Returns the path of something that goes with the run: `runs/dates.data`, for instance."""
    return output.parent / f"{output.name}.{name}"


def make_data(pairs: int, folder: Path) -> dict[str, ParallelText]:
    """Generates the three parts, writes them as text files, and reads those."""
    options = data.Generation(train=pairs)
    data.write_parts(data.generate(options), folder)
    print(
        f"{pairs:,} pairs to train on, {options.validation:,} for validation, "
        f"{options.test:,} held out: {folder}"
    )
    return {
        part: read_parallel(folder / f"{part}.source", folder / f"{part}.target")
        for part in data.PARTS
    }


def translate(translator: Translator, texts: list[str]) -> list[str]:
    """Translates texts, in order."""
    lines = translate_lines(ModelEngine(translator), texts, batch_size=200)
    return [line.text for line in lines]


def export(translator: Translator, sources: list[str], outputs: list[str], path: Path) -> None:
    """Writes a SavedModel, has a process without ktransformer translate, and compares."""
    folder = export_saved_model(translator, path)
    print(f"The export, here read by TensorFlow alone: {folder}")
    served = subprocess.run(
        [sys.executable, "-X", "utf8", str(HERE / "serve.py"), str(folder)],
        input="".join(f"{source}\n" for source in sources),
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    ).stdout.splitlines()
    print(*(f"  {line}" for line in served), sep="\n")
    wanted = [f"{source} -> {output}" for source, output in zip(sources, outputs, strict=True)]
    if served != wanted:
        raise RuntimeError(f"The export says {served}, but the run itself {wanted}.")


def export_one_file(
    translator: Translator, sources: list[str], outputs: list[str], path: Path
) -> None:
    """Writes one .tflite, translates with LiteRT, and compares."""
    file = export_lite(
        translator,
        path,
        signatures=["serving_default", "beam"],
        overwrite=True,
        source_label="text",
        target_label="iso",
    )
    lines = translate_lines(LiteEngine(file), sources, batch_size=200)
    same = sum(line.text == output for line, output in zip(lines, outputs, strict=True))
    print(f"The same in one file for LiteRT: {file}")
    print(f"  {same} of {len(outputs)} texts are the run's")
    if same < 0.999 * len(outputs):
        raise RuntimeError(f"The .tflite says the same as the run {same} times only.")


def one_of_each_script(texts: list[str]) -> list[str]:
    """Returns the longest text of each script, Latin first, among the first 300."""
    longest: dict[str, str] = {"LATIN": ""}
    for text in texts[:300]:
        script = data.script(text)
        if script and len(text) > len(longest.get(script, "")):
            longest[script] = text
    return list(longest.values())


if __name__ == "__main__":
    sys.exit(main())
