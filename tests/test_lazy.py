"""Packages whose names are imported on first use list them all the same."""

import subprocess
import sys

PROGRAM = """\
import importlib, sys
import ktransformer

for name in ("corpora", "engines", "exporting", "fitting", "serving", "tasks", "text"):
    package = importlib.import_module(f"ktransformer.{name}")
    before = set(sys.modules)
    print(name, *dir(package))
    assert set(sys.modules) == before, name
"""


def test_dir_lists_the_public_names_and_imports_nothing():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    listed = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    for name, expected in {
        "corpora": {"Progress", "Report", "translate_corpus"},
        "engines": {"LiteEngine", "load", "available_cores", "__name__"},
        "exporting": {"LiteModel", "QUANTIZATIONS", "export_lite", "export_saved_model"},
        "fitting": {"TrainingModel", "fit_model", "train"},
        "serving": {"ModelSpec", "ServingOptions", "serve_models"},
        "tasks": {"Translator", "ImageClassifier", "load"},
        "text": {"Tokenizer", "END_ID", "read_lines"},
    }.items():
        assert expected <= set(listed[name])
        assert listed[name] == sorted(set(listed[name]))
