import importlib
import subprocess
import sys

import pytest

from ktransformer.quiet import without_packages


def test_a_package_is_hidden_in_the_block_alone(tmp_path, monkeypatch):
    (tmp_path / "seldom_used.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with without_packages("seldom_used", "json"):
        with pytest.raises(ImportError):
            importlib.import_module("seldom_used")
        importlib.import_module("json")  # Imported before.
    importlib.import_module("seldom_used")


def test_a_command_starts_without_what_it_never_uses():
    for name in ("sklearn", "matplotlib"):
        pytest.importorskip(name)
    code = (
        "import sys\n"
        "from ktransformer.cli import main\n"
        "assert main(['translate', 'absent']) == 2\n"
        "print('tensorflow' in sys.modules, {'sklearn', 'matplotlib'} & set(sys.modules))\n"
        "import sklearn, matplotlib\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "True set()\n"
    assert result.returncode == 0, result.stderr
