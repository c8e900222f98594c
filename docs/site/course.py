"""Makes a course of docs/claims.md: an overview, and a page for each claim."""

import re
from collections.abc import Mapping
from typing import Any

_SECTION = re.compile(r"^(?=## \d+\. )", re.MULTILINE)
_HEADING = re.compile(r"## (\d+)\. (.+)\n")
_PICTURE = re.compile(r"\]\(claims/(\w+)\.png\)")
_ANCHOR = re.compile(r"\(#(\d+)-[^)]*\)")
_RUN = """\
## Run it, and change one thing

In a clone, after `make demo` or `make test` (`.venv/bin/python`), with less than above:

```python
from training.claims import {name}

settings = {name}.Settings({settings})
found = {name}.measure(settings)
{name}.draw(found, "{name}.png")
print({name}.conclude(found).outcome)
```

**Change.** {change}

The rest of `Settings`, and how the model is made, stand in `training/claims/{name}.py`.
"""


def name_claims(markdown: str) -> dict[str, str]:
    """Returns the experiment's name of each claim, by its number, from the text of the page."""
    names = {}
    for section in _SECTION.split(markdown)[1:]:
        ((number, _),) = _HEADING.findall(section)
        (names[number],) = _PICTURE.findall(section)
    return names


def split_course(markdown: str, course: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Splits the page.

    Args:
        markdown: docs/claims.md.
        course: docs/claims/course.yaml: of each experiment the settings and the change.

    Returns:
        The text of each page of the site, by its path.
    """
    overview, *sections = _SECTION.split(markdown)
    names = name_claims(markdown)
    overview = _ANCHOR.sub(lambda found: f"(claims/{names[found[1]]}.md)", overview)
    pages = {"claims.md": overview.replace("Every\nsection states", "Each has\na page that states")}
    for name, section in zip(names.values(), sections, strict=True):
        settings = ", ".join(
            f"{key}={_in_python(value)}" for key, value in course[name]["settings"].items()
        )
        text = _HEADING.sub(r"# \1. \2\n", section, count=1).replace("(claims/", "(")
        run = _RUN.format(name=name, settings=settings, change=course[name]["change"])
        pages[f"claims/{name}.md"] = f"{text.rstrip()}\n\n{run}"
    return pages


def _in_python(value: Any) -> str:
    return repr(tuple(value)) if isinstance(value, list) else repr(value)
