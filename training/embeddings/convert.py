"""Imports a sentence encoder and exports it: a SavedModel and two .tflite files.

    python -m training.embeddings.convert FOLDER --output OUTPUT

FOLDER is one of sentence-transformers, all-MiniLM-L6-v2 for example. OUTPUT gets the imported model
(`model`), the SavedModel (`saved_model`; each time a new version), `float32.tflite` and
`int8.tflite`.
"""

import argparse
from pathlib import Path

import ktransformer

ktransformer.quiet()  # Before TensorFlow is imported.

from ktransformer.conversion import import_published
from ktransformer.exporting import export_lite, export_saved_model
from training.programs import exit_status

FORMS = ("saved_model", "float32.tflite", "int8.tflite")


def main() -> int:
    """Converts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", metavar="FOLDER", help="folder of sentence-transformers")
    parser.add_argument("--output", required=True, metavar="OUTPUT", help="folder to make")
    options = parser.parse_args()
    return exit_status("convert", lambda: convert(Path(options.folder), Path(options.output)))


def convert(folder: Path, output: Path) -> None:
    """Writes the imported model and its exports."""
    imported = import_published(folder)
    output.mkdir(parents=True, exist_ok=True)
    imported.save(output / "model", overwrite=True)
    export_saved_model(imported.task, output / "saved_model")
    export_lite(imported.task, output / "float32.tflite", overwrite=True)
    export_lite(imported.task, output / "int8.tflite", quantization="dynamic_int8", overwrite=True)
    for path in sorted(each for each in output.rglob("*") if each.is_file()):
        print(f"{path.stat().st_size:12,} {path.relative_to(output)}")


if __name__ == "__main__":
    raise SystemExit(main())
