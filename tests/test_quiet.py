import subprocess
import sys

import pytest

from ktransformer.quiet import without_packages


def test_a_package_is_hidden_in_the_block_alone():
    with without_packages("colorsys", "json"):
        with pytest.raises(ImportError):
            import colorsys
        import json  # Imported before.

        assert json.loads("1") == 1
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)


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
