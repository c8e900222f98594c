"""Makes the pages of the site that are not in docs/: pages of other folders, and the reference.

mkdocs-gen-files runs it. A page of another folder keeps its path, so that links between pages hold.
"""

import argparse
import contextlib
import dataclasses
from pathlib import Path

import griffe
import mkdocs_gen_files
import nbformat
import yaml
from course import split_course
from notebooks import make_notebook

from ktransformer.cli.command_line import make_parser
from ktransformer.config import Config

ROOT = Path(__file__).parents[2]
PICTURES = ("*.png", "*.svg")
# The names that each page of the reference has: those that its package makes public.
PACKAGES = {
    "layers": ["layers"],
    "models": ["models"],
    "text": ["text"],
    "decoding": ["decoding"],
    "tasks": ["tasks"],
    "fitting": ["fitting"],
    "losses": ["losses", "metrics", "schedules"],
    "exporting": ["exporting"],
    "engines": ["engines"],
    "conversion": ["conversion"],
    "verification": ["verification"],
    "inspection": ["inspection", "drawing"],
    "corpora": ["corpora"],
    "serving": ["serving"],
}


def write(path: str, content: str | bytes) -> None:
    """Adds a file to the site."""
    mode = "wb" if isinstance(content, bytes) else "w"
    with mkdocs_gen_files.open(path, mode) as file:
        file.write(content)


def copy_pages() -> None:
    """Copies the pages, and their pictures, of training/, export/ and the root."""
    write("index.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        write(name, (ROOT / name).read_text(encoding="utf-8"))
    for folder in ("training", "export"):
        for pattern in ("*.md", *PICTURES):
            for path in sorted((ROOT / folder).rglob(pattern)):
                if "node_modules" not in path.parts:
                    write(str(path.relative_to(ROOT)), path.read_bytes())


def write_notebooks() -> None:
    """Makes a notebook of each tutorial: its blocks that run are cells, all else is prose."""
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")):
        if path.name != "README.md":
            notebook = make_notebook(path.read_text(encoding="utf-8"))
            write(f"tutorials/{path.stem}.ipynb", nbformat.writes(notebook))


def write_course() -> None:
    """Writes the claims as a course: a page for each."""
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    course = yaml.safe_load((ROOT / "docs" / "claims" / "course.yaml").read_text(encoding="utf-8"))
    for path, page in split_course(text, course).items():
        write(path, page)


def write_commands() -> None:
    """Writes what each command's `--help` says."""
    parser = make_parser()
    (commands,) = (
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    lines = ["# Commands", "", f"{parser.description}", ""]
    for name, command in commands.choices.items():
        lines += [
            f"## ktransformer {name}",
            "",
            "```text",
            command.format_help().strip(),
            "```",
            "",
        ]
    write("reference/commands.md", "\n".join(lines))


def write_settings(library: griffe.Module) -> None:
    """Writes the settings of `--set` and of a configuration file, with their defaults."""
    lines = [
        "# Settings",
        "",
        "`train --set NAME=VALUE`, or a line in a section of a YAML file.",
        "",
        '<div class="settings" markdown>',
        "",
    ]
    for section in dataclasses.fields(Config):
        settings = getattr(Config(), section.name)
        module = type(settings).__module__.removeprefix(f"{library.path}.")
        described = library[f"{module}.{type(settings).__name__}"]
        lines += [f"## {section.name}", "", "| setting | default | |", "| --- | --- | --- |"]
        for name, value in vars(settings).items():
            about = described.all_members[name].docstring.value
            lines.append(f"| `{name}` | `{_in_yaml(value)}` | {_in_a_cell(about)} |")
        lines.append("")
    write("reference/settings.md", "\n".join([*lines, "</div>", ""]))


def _in_yaml(value: object) -> str:
    """Returns a default as a configuration file would have it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return (
        str(value).lower() if isinstance(value, bool) else str("null" if value is None else value)
    )


def _in_a_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write_reference(library: griffe.Module) -> None:
    """Writes a page for each part of the library, which mkdocstrings fills."""
    for page, packages in PACKAGES.items():
        lines = [f"# {', '.join(f'ktransformer.{name}' for name in packages)}", ""]
        for name in packages:
            for public in _public_names(library[name]):
                lines += [f"::: ktransformer.{name}.{public}", ""]
        write(f"reference/{page}.md", "\n".join(lines))


def _public_names(part: griffe.Module) -> list[str]:
    """Returns the documented names that a package re-exports, or that a module defines."""
    names = []
    for name, member in part.members.items():
        if name.startswith("_") or not (member.is_alias or member.is_class or member.is_function):
            continue
        # A package re-exports names of its own modules; what else it imports is not its own.
        if member.is_alias and not member.target_path.startswith(f"{part.path}."):
            continue
        with contextlib.suppress(griffe.AliasResolutionError):  # A value without a docstring.
            if member.docstring:
                names.append(name)
    return names


package = griffe.load("ktransformer", search_paths=[ROOT], resolve_aliases=True)
assert isinstance(package, griffe.Module)
copy_pages()
write_notebooks()
write_course()
write_commands()
write_settings(package)
write_reference(package)
