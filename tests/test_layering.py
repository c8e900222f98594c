"""Imports go one way down; layers and models know Keras alone."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ktransformer

ROOT = Path(ktransformer.__file__).parent

# The parts, bottom up: each may import the parts before its line that it names, and of other
# packages those named. A part that is not here fails the test.
_EVERYWHERE = {"errors", "lazy", "numbers", "_version"}
_PARTS: dict[str, tuple[set[str], set[str]]] = {
    **{name: (set(), set()) for name in ("__init__", *_EVERYWHERE)},
    "files": (set(), set()),
    "drawing": (set(), {"matplotlib", "numpy"}),
    "runtime": (set(), {"ai_edge_litert", "flatbuffers", "numpy", "ray", "tensorflow"}),
    "config": (set(), {"yaml"}),
    "scores": (set(), {"sacrebleu"}),
    "comet": (set(), set()),
    "schedules": (set(), {"keras"}),
    "losses": (set(), {"keras"}),
    "metrics": ({"losses"}, {"keras"}),
    "layers": (set(), {"keras", "numpy"}),
    "models": ({"layers"}, {"keras"}),
    "text": (
        {"runtime"},
        {"flatbuffers", "numpy", "sentencepiece", "tensorflow", "tensorflow_text"},
    ),
    "decoding": (set(), {"numpy", "tensorflow"}),
    "saving": (
        {"config", "drawing", "files", "models", "text"},
        {"h5py", "keras", "ml_dtypes", "numpy", "yaml"},
    ),
    "tasks": (
        {"config", "decoding", "files", "losses", "models", "runtime", "saving", "text"},
        {"keras", "numpy", "tensorflow"},
    ),
    "exporting": (
        {"config", "files", "runtime", "saving", "tasks", "text"},
        {
            "ai_edge_litert",
            "flatbuffers",
            "google",
            "keras",
            "numpy",
            "tensorflow",
            "tensorflow_text",
        },
    ),
    "conversion": (
        {
            "config",
            "decoding",
            "exporting",
            "files",
            "layers",
            "models",
            "saving",
            "tasks",
            "text",
        },
        {"huggingface_hub", "keras", "ml_dtypes", "numpy", "safetensors", "tensorflow"},
    ),
    "engines": (
        {
            "config",
            "conversion",
            "drawing",
            "exporting",
            "files",
            "runtime",
            "saving",
            "tasks",
            "text",
        },
        {"numpy", "tensorflow"},
    ),
    "corpora": (
        {"engines", "files", "runtime", "tasks", "text"},
        {"pyarrow", "ray"},
    ),
    "verification": (
        {"engines", "exporting", "files", "runtime", "scores", "tasks", "text"},
        {"numpy", "tensorflow"},
    ),
    "fitting": (
        {
            "config",
            "drawing",
            "engines",
            "files",
            "layers",
            "losses",
            "metrics",
            "models",
            "runtime",
            "saving",
            "schedules",
            "scores",
            "tasks",
            "text",
        },
        {"jax", "keras", "numpy", "ray", "tensorflow"},
    ),
    "inspection": (
        {"config", "conversion", "exporting", "files", "fitting", "saving", "tasks", "text"},
        set(),
    ),
    "serving": (
        {"engines", "runtime", "tasks", "text"},
        {"babel", "fastapi", "fastapi_offline", "numpy", "pydantic", "ray", "starlette"},
    ),
    "cli": (
        {
            "comet",
            "config",
            "conversion",
            "corpora",
            "engines",
            "exporting",
            "files",
            "fitting",
            "inspection",
            "models",
            "runtime",
            "saving",
            "scores",
            "serving",
            "tasks",
            "text",
            "verification",
        },
        {"shtab", "tensorflow"},
    ),
    "__main__": ({"cli"}, set()),
}


def test_the_parts_are_in_order():
    above = set()
    for part, (ours, _) in reversed(_PARTS.items()):
        assert not ours & above, f"{part} imports what lies above it"
        above.add(part)


def imported(path: Path) -> set[str]:
    """Returns the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = node.module == "ktransformer"
            names |= {f"ktransformer.{a.name}" for a in node.names} if whole else {node.module}
    return names


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_only_what_lies_below_it(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    ours, others = _PARTS[part]
    for name in imported(path):
        top, *rest = name.split(".")
        if top == "ktransformer":
            assert rest[0] in ours | _EVERYWHERE | {part}, f"{path} imports {name}"
        elif top not in sys.stdlib_module_names:
            assert top in others, f"{path} imports {name}"


def test_recipes_and_exports_import_no_private_name():
    folders = [ROOT.parent / "training", ROOT.parent / "export"]
    files = [path for folder in folders for path in folder.rglob("*.py")]
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ktransformer"):
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                assert not any(name.startswith("_") for name in names), f"{path}: {names}"


def _run(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_layers_and_models_work_without_tensorflow():
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = sys.modules['tensorflow_text'] = None\n"
        "import numpy, ktransformer.layers, ktransformer.losses, ktransformer.metrics\n"
        "from ktransformer.models import Transformer\n"
        "model = Transformer.from_preset('tiny', 50)\n"
        "ids = numpy.ones((2, 3), 'int32')\n"
        "print(model({'source': ids, 'target': ids}).shape)\n"
    )
    assert _run(code, KERAS_BACKEND="jax").strip() == "(2, 3, 50)"


def test_a_missing_tensorflow_text_is_said_in_a_sentence():
    code = (
        "import sys\n"
        "sys.modules['tensorflow_text'] = None\n"
        "try:\n    from ktransformer.text import Tokenizer\n"
        "except ImportError as error:\n    print(error)\n"
    )
    assert _run(code).startswith(
        "ktransformer.text.Tokenizer needs tensorflow-text, which is not installed"
    )


def test_importing_the_package_imports_no_backend():
    code = "import sys, ktransformer; print('keras' in sys.modules, 'tensorflow' in sys.modules)"
    assert _run(code).strip() == "False False"


def test_no_test_module_is_imported_by_another_file():
    found = [
        path
        for path in Path(__file__).parent.rglob("*.py")
        if re.search(r"(from|import) tests\.([a-z_.]+\.)?test_", path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_no_program_changes_the_path_of_imports():
    root = ROOT.parent
    programs = [*root.glob("training/**/*.py"), *root.glob("export/**/*.py")]
    assert [path for path in programs if "sys.path" in path.read_text(encoding="utf-8")] == []
    assert programs


def test_imports_do_not_start_tensorflow():
    # Once it runs, its devices and threads cannot be set any more.
    code = (
        "from tensorflow.python.eager import context\n"
        "import ktransformer.conversion, ktransformer.engines, ktransformer.exporting\n"
        "import ktransformer.fitting.run_folder, ktransformer.verification\n"
        "print(context.context()._initialized)\n"
    )
    assert _run(code).strip() == "False"
