"""COMET, by the program comet-score of the package unbabel-comet in an environment of its own.

unbabel-comet 2.2.7 needs protobuf below 5 and numpy below 2, and TensorFlow protobuf from 6.31:
one environment cannot hold both.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ktransformer.errors import InputError

_SCORE = re.compile(r"\tscore: (-?[0-9.]+)$", re.MULTILINE)


def find_program(program: str) -> str:
    """Returns the path of comet-score.

    Args:
        program: Its path, or its name if it is on the PATH.

    Raises:
        InputError: There is no such program.
    """
    path = shutil.which(program)
    if path is None:
        raise InputError(
            "COMET needs the program comet-score: install unbabel-comet into an environment of its "
            f"own and give the program's path; got {program!r}, which is no program."
        )
    return path


def score_with_comet(
    program: str,
    sources: Sequence[str],
    systems: Sequence[Sequence[str]],
    references: Sequence[str],
    *,
    model: str = "Unbabel/wmt22-comet-da",
) -> list[float]:
    """Scores the translations of one or more systems with COMET.

    Args:
        program: The path of comet-score.
        sources: The source texts.
        systems: The translations of each system.
        references: The reference of each source.
        model: COMET's name of a model, which it downloads, or the path of a checkpoint.

    Returns:
        The score of each system, the mean over its translations.

    Raises:
        InputError: The program fails, as without the model, or prints no score.

    Reference: Rei et al. 2022.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, lines in enumerate((sources, references, *systems)):
            paths.append(Path(folder) / str(number))
            paths[-1].write_text("".join(f"{' '.join(x.split())}\n" for x in lines), "utf-8")
        source, reference, *translations = map(str, paths)
        line = [program, "-s", source, "-r", reference, "--model", model, "--only_system"]
        try:
            done = subprocess.run(
                [*line, "--quiet", "-t", *translations],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise InputError(f"{program} cannot be run: {error.strerror}.") from error
    scores = [float(score) for score in _SCORE.findall(done.stdout)]
    if done.returncode or len(scores) != len(systems):
        said = (done.stderr.strip() or "no score").splitlines()[-1]
        raise InputError(f"{program} gave no score with the model {model}: {said}")
    return scores
