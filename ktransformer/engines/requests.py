"""What an engine runs for a batch of texts: a plain search, a steered one, or one with terms."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ktransformer.errors import InputError
from ktransformer.tasks.text_signatures import TEXT_SIGNATURES
from ktransformer.text.terms import check_terms

if TYPE_CHECKING:
    from ktransformer.engines.engine import Engine
    from ktransformer.tasks.controls import Controls

Run = Callable[[np.ndarray, int], dict[str, np.ndarray]]
"""Takes a batch of UTF-8 and the place of its first text; returns a signature's outputs."""

Terms = Mapping[str, str] | Iterable[tuple[str, str]]
"""The target term of each source term, or pairs of both."""


def plain(engine: "Engine", n_best: int = 1) -> Run:
    """Returns the plain search; raises as `Engine.find_signature`."""
    signature = engine.find_signature(n_best)
    return lambda batch, _: engine.run(signature, batch)


def steered(engine: "Engine", controls: "Controls", count: int) -> Run:
    """Returns the search that `controls` ask for; the plain one where they ask for nothing.

    Args:
        engine: The engine.
        controls: The options.
        count: The number of all texts.

    Raises:
        InputError: The options ask for too many translations, or have another number of prefixes;
            or the export has no signature `controlled`.
    """
    controls.check_n_best(engine.description.decoding.beam_size)
    controls.check_copy(engine.description.decoding.copy)
    if "controlled" not in engine.signatures:
        raise InputError(
            "Other options of the search take an export with the signature controlled, which "
            "export --signatures serving_default controlled writes; this one has "
            f"{', '.join(engine.signatures)}."
        )
    if controls == type(controls)() and set(TEXT_SIGNATURES) & set(engine.signatures):
        return plain(engine)
    prefixes = controls.prefixes(count)

    def run(batch: np.ndarray, start: int) -> dict[str, np.ndarray]:
        chosen = prefixes[start : start + len(batch)]
        chosen += [""] * (len(batch) - len(chosen))
        return engine.run("controlled", **controls.to_inputs(batch, chosen))

    return run


def with_terms(engine: "Engine", terms: Terms) -> Run:
    """Returns the search with a terminology.

    Raises:
        InputError: There is no signature `terms`, or one of `terms` is none; see `check_terms`.
    """
    if "terms" not in engine.signatures:
        raise InputError(
            f"This export has no signature terms, only {', '.join(engine.signatures)}."
        )
    columns = zip(*check_terms(terms, characters=engine.description.target_characters), strict=True)
    inputs = {
        name: np.array([term.encode() for term in next(columns, ())], dtype=object)
        for name in ("source_terms", "target_terms")
    }
    return lambda batch, _: engine.run("terms", batch, **inputs)
