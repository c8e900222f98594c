"""Measures how long a document takes against a file of its sentences, on one thread.

    python -m tests.tasks.time_documents --source test.en RUN SAVED_MODEL FILE.tflite

The document has the first 200 lines of the source, ten a line. The file is translated by
`translate_lines`, 32 lines at a time, on as many threads.
"""

import argparse
import time

from ktransformer.engines import load_engine, translate_lines
from ktransformer.runtime.threads import set_threads
from ktransformer.text import read_lines

_ROUNDS = 5


def main() -> None:
    """Prints a line for each model: the least of five times of each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--source", required=True)
    options = parser.parse_args()
    set_threads(1)
    lines = [line.strip() for line in read_lines(options.source)][:200]
    document = "\n".join(" ".join(lines[i : i + 10]) for i in range(0, len(lines), 10))
    for path in options.models:
        engine = load_engine(path, threads=1)
        seconds: dict[str, list[float]] = {"file": [], "document": []}
        for i in range(_ROUNDS + 1):
            begin = time.perf_counter()
            translate_lines(engine, lines)
            middle = time.perf_counter()
            (found,) = engine.translate_document([document])
            if i:  # The first traces graphs, or lays out memory.
                seconds["file"].append(middle - begin)
                seconds["document"].append(time.perf_counter() - middle)
        file, whole = (min(each) for each in seconds.values())
        print(
            f"{path}: {len(lines)} lines {file:.2f} s, a document of {len(found.sentences)} "
            f"sentences {whole:.2f} s, ratio {whole / file:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
