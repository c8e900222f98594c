"""What a benchmark needs before it begins: Multi30k, and the environments of the peers."""

from collections.abc import Mapping
from pathlib import Path

from ktransformer.errors import InputError


def check_data(data: Path | None) -> None:
    """Checks that the folder of Multi30k is there.

    Raises:
        InputError: It is not, or none is named.
    """
    if data is None or not data.is_dir():
        what = f"{data} is no folder" if data else "DATA is not given"
        raise InputError(
            f"{what}: it must name the folder of Multi30k, which training/translation/README.md "
            "says how to get."
        )


def find_text(data: Path, name: str) -> Path:
    """Finds a text of the data set, gzipped or not.

    Raises:
        InputError: There is none.
    """
    for path in (data / f"{name}.gz", data / name):
        if path.is_file():
            return path
    raise InputError(
        f"There is no {name}.gz in {data}; training/translation/README.md says how to "
        "get Multi30k, and DATA=FOLDER where it is."
    )


def check_environments(pythons: Mapping[str, Path], target: str) -> None:
    """Checks that every engine's Python is there; `target` is what makes it.

    Raises:
        InputError: One is not.
    """
    for name, python in pythons.items():
        if not python.is_file():
            raise InputError(
                f"The engine {name} needs the environment {python.parents[1]}, which is not "
                f"there: `make {target}` makes it."
            )
