"""The README and the tutorials are run, block by block, each in a folder of its own."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
RUN_PAGE = ROOT / "docs" / "site" / "run_page.py"
README = ROOT / "README.md"
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("[!R]*.md"))  # README.md lists them.
FIRST = ROOT / "docs" / "tutorials" / "first-translator.md"


def predecessor(page: Path) -> Path | None:
    found = re.search(r"^This page continues \[[^\]]+\]\(([^)]+)\)", page.read_text(), re.MULTILINE)
    return (page.parent / found[1]).resolve() if found else None


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Runs a page, behind the page that it continues; returns the folder in which it ended."""
    folders: dict[Path, Path] = {}

    def run(page: Path) -> Path:
        if page in folders:
            return folders[page]
        folder = tmp_path_factory.mktemp("pages") / page.stem
        if page == README:  # It names the files of the first tutorial.
            folder.mkdir()
            for name in ("train.en", "train.de", "new.en"):
                lines = (run(FIRST) / name).read_text(encoding="utf-8").splitlines(keepends=True)
                (folder / name).write_text("".join(lines[:12]), encoding="utf-8")  # 100 epochs.
        elif before := predecessor(page):
            shutil.copytree(run(before), folder)
        else:
            folder.mkdir()
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = subprocess.Popen(
            [sys.executable, RUN_PAGE, page],
            cwd=folder,
            env={**os.environ, "PATH": path, "KTRANSFORMER": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=900)
        finally:  # A page that fails may leave a server behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, printed
        folders[page] = folder
        return folder

    return run


@pytest.mark.long
@pytest.mark.parametrize("page", [README, *TUTORIALS], ids=lambda page: page.stem)
def test_a_page_runs_from_top_to_bottom_and_prints_what_it_shows(page, finished):
    finished(page)


def test_a_page_that_shows_what_its_code_does_not_print_fails(tmp_path):
    page = tmp_path / "page.md"
    for shown, status in (("2.0 or so", 1), ("2...", 0)):
        page.write_text(f"```python\nprint(4**0.5)\n```\n\n```output\n{shown}\n```\n")
        run = subprocess.run([sys.executable, RUN_PAGE, page], capture_output=True, check=False)
        assert run.returncode == status


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
    assert links(README)
    for name in links(README):
        assert (ROOT / name).exists(), name


def test_the_sites_menu_has_every_page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    from course import name_claims

    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    for folder in ("training", "export"):
        found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.md"))
        pages |= {path.as_posix() for path in found if "node_modules" not in path.parts}
    claims = name_claims((ROOT / "docs" / "claims.md").read_text(encoding="utf-8"))
    pages |= {f"claims/{name}.md" for name in claims.values()}
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert pages - set(menu_pages(menu)) == set()


def menu_pages(menu) -> list[str]:
    if isinstance(menu, str):
        return [menu]
    parts = menu.values() if isinstance(menu, dict) else menu
    return [page for part in parts for page in menu_pages(part)]
