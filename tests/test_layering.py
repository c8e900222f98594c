"""Imports go one way down; layers and models know Keras alone."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ktransformer

ROOT = Path(ktransformer.__file__).parent

# What each part may import, of this package and of others. A part not named here fails the test.
_ALWAYS = {"backend", "errors", "lazy", "numbers", "supported_backend", "_version"}
_PARTS: dict[str, tuple[set[str], set[str]]] = {
    "__init__": (set(), set()),
    "_version": (set(), set()),
    "allocator": (set(), set()),
    "backend": (set(), set()),
    "supported_backend": (set(), set()),
    "errors": (set(), set()),
    "lazy": (set(), set()),
    "numbers": (set(), set()),
    "files": (set(), set()),
    "checksums": (set(), set()),
    "weights": (set(), {"h5py", "keras", "ml_dtypes", "numpy"}),
    "keras_file": ({"checksums", "models", "weights"}, {"keras"}),
    "noise": (set(), {"ai_edge_litert", "flatbuffers", "numpy", "tensorflow"}),
    "progress": (set(), set()),
    "setting_checks": (set(), set()),
    "yaml_file": (set(), {"yaml"}),
    "config": ({"setting_checks", "yaml_file"}, set()),
    "layers": (set(), {"keras", "numpy"}),
    "models": ({"layers"}, {"keras"}),
    "losses": (set(), {"keras"}),
    "metrics": ({"losses"}, {"keras"}),
    "schedules": (set(), {"keras"}),
    "text": (set(), {"numpy", "tensorflow", "tensorflow_text", "sentencepiece"}),
    "decoding": (set(), {"tensorflow"}),
    "run": (
        {"checksums", "config", "files", "keras_file", "models", "text", "weights"},
        set(),
    ),
    "lexicon": ({"text"}, {"numpy"}),
    "matching": (set(), {"numpy"}),
    "serving": (
        {
            "checksums",
            "config",
            "decoding",
            "files",
            "lexicon",
            "losses",
            "models",
            "text",
            "weights",
        },
        {"google", "keras", "numpy", "tensorflow"},
    ),
    "lite": (
        {"checksums", "files", "matching", "serving", "text", "weights"},
        {"ai_edge_litert", "flatbuffers", "keras", "numpy", "tensorflow", "tensorflow_text"},
    ),
    "engines": ({"config", "lite", "run", "serving"}, set()),
    "servables": (
        {
            "checksums",
            "engines",
            "files",
            "keras_file",
            "models",
            "run",
            "serving",
            "text",
            "weights",
        },
        set(),
    ),
    "tolerances": ({"serving"}, set()),
    "parity": ({"files", "lite", "matching", "serving", "tolerances"}, {"numpy", "tensorflow"}),
    "scores": (set(), {"sacrebleu"}),
    "verification": (
        {"engines", "files", "n_best", "scores", "serving", "tolerances"},
        {"numpy"},
    ),
    "n_best": ({"matching", "serving"}, {"numpy"}),
    "pruning": ({"layers", "models", "run", "text"}, {"keras", "numpy"}),
    "fitting": (
        {
            "config",
            "files",
            "losses",
            "metrics",
            "models",
            "run",
            "schedules",
            "scores",
            "serving",
            "text",
        },
        {"keras", "numpy", "tensorflow"},
    ),
    "commands": (
        {
            "config",
            "engines",
            "files",
            "fitting",
            "models",
            "progress",
            "pruning",
            "run",
            "scores",
            "serving",
            "text",
        },
        {"tensorflow"},
    ),
    "export_commands": (
        {
            "arguments",
            "commands",
            "config",
            "engines",
            "files",
            "lexicon",
            "lite",
            "parity",
            "run",
            "servables",
            "serving",
            "text",
            "tolerances",
            "verification",
        },
        set(),
    ),
    "arguments": ({"config"}, set()),
    "cli": (
        {"allocator", "arguments", "commands", "export_commands", "noise", "progress"},
        {"tensorflow"},
    ),
    "__main__": ({"cli"}, set()),
}


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
            assert rest[0] in ours | _ALWAYS | {part}, f"{path} imports {name}"
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
