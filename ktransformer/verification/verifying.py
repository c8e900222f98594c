"""Compares exports of any kind of model with the model: all run on the same examples."""

import collections
import dataclasses
import statistics
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ktransformer.engines import batches_by_length
from ktransformer.errors import InputError
from ktransformer.files import size_on_disk
from ktransformer.tasks import SignatureCheck, Task, load, with_article
from ktransformer.text import read_lines
from ktransformer.verification.compare import Comparison
from ktransformer.verification.report import Report, Result
from ktransformer.verification.runner import Export, Runner, run_model
from ktransformer.verification.tolerances import Tolerances, check_demands, find_broken


def verify(
    exports: Sequence[str | Path],
    model: str | Path,
    source: str | Path,
    reference: str | Path | None = None,
    *,
    tolerances: Tolerances | None = None,
    threads: int | None = None,
    batch_size: int = 1,
) -> Report:
    """Compares exports with their model on the examples of a file or folder.

    Args:
        exports: Exports in any form, with the same settings.
        model: The folder of the model.
        source: The examples, as the model's task reads them: texts, or a folder of images.
        reference: Reference texts, a line for each example, for BLEU, chrF and exact matches.
        tolerances: How much the exports may differ.
        threads: CPU threads of LiteRT, None for one a core; TensorFlow's are set for the process.
        batch_size: Examples of a batch.

    Raises:
        InputError: A path cannot be read, an export is of another model, or as `compare_exports`.
    """
    start = time.perf_counter()
    task = load(model)
    seconds = time.perf_counter() - start
    opened = [Export(path, threads) for path in exports]
    for export in opened:
        _check_origin(export, task, model)
    examples = task.read_examples(source)
    references = None if reference is None else list(read_lines(reference))
    if references is not None and len(references) != len(examples):
        raise InputError(
            f"{source} and {reference} must have the same number of lines; got {len(examples)} "
            f"and {len(references)}."
        )
    report = compare_exports(
        task, opened, examples, references, tolerances=tolerances, batch_size=batch_size
    )
    first, *others = report.results
    seconds += first.load_seconds
    first = dataclasses.replace(
        first, name=str(model), bytes=size_on_disk(model), load_seconds=seconds
    )
    return dataclasses.replace(report, threads=threads, results=(first, *others))


def _check_origin(export: Export, task: Task, model: str | Path) -> None:
    """Refuses an export of another kind, or of another model."""
    about, expected = export.description, task.describe(())
    if about.kind != expected.kind:
        raise InputError(
            f"{export.path} is {with_article(about.kind)}, not {with_article(expected.kind)} as "
            f"{model} is."
        )
    for name in task.IDENTITY:
        if name.endswith("tokenizer_sha256") and not export.keeps_ids:
            continue  # Its tokenizers are made of the folder's files.
        if getattr(about, name) != getattr(expected, name):
            raise InputError(f"{export.path} has another {name} than {model}: not of it.")


def compare_exports(
    task: Task,
    exports: Sequence[Export],
    examples: Sequence[Any],
    references: Sequence[str] | None = None,
    *,
    tolerances: Tolerances | None = None,
    batch_size: int = 1,
) -> Report:
    """Runs a model and exports of it on the same examples, and compares their outputs.

    Args:
        task: The model; it takes the settings of the exports.
        exports: Exports of it, at least one.
        examples: See `Task.read_examples`.
        references: Reference texts, one for each example; None for no scores.
        tolerances: How much the exports may differ.
        batch_size: Examples of a batch.

    Raises:
        InputError: There is no export or example, the exports differ in their settings, one has no
            signature to compare or no text for the references, or no limit holds for one.
    """
    if not exports:
        raise InputError("There is no export to compare.")
    if not examples:
        raise InputError("There is no example to compare the exports on.")
    tolerances = tolerances or Tolerances()
    task = task.with_settings(**_common_settings(task, exports))
    results: list[Result] = []
    for members in _group(task, exports, tolerances, scored=references is not None):
        scored = references if members[0].is_first else None
        found = _compare(members, examples, scored, batch_size)
        results += found[1:] if results else found
    return Report(len(examples), batch_size, None, tuple(results))


def _common_settings(task: Task, exports: Sequence[Export]) -> dict[str, Any]:
    """Returns the settings of all exports; refuses exports that differ in them."""
    first, *others = (task.settings_of(export.description) for export in exports)
    differing = [name for name in first if any(each[name] != first[name] for each in others)]
    if differing:
        raise InputError(f"The exports differ in {', '.join(differing)}: verify them one by one.")
    return first


class _Member:
    """One signature of an export, being compared; the texts of the first one are scored."""

    def __init__(
        self,
        task: Task,
        export: Export,
        check: SignatureCheck,
        limits: dict[str, float],
        *,
        is_first: bool,
    ) -> None:
        self.export, self.check, self.limits, self.is_first = export, check, limits, is_first
        self.batch_size = export.description.batch_size
        self.runner = Runner(check, partial(export.run, check.signature))
        tie = limits.get("max_score_difference", 0.0) if check.n_best else None
        self.comparison = Comparison(task.RANKED_BY, check.optional, tie, task.pad_id)

    def result(self, own: Result, references: Sequence[str] | None) -> Result:
        """Returns the result; `own` is the model's."""
        result = self.runner.result(
            references,
            name=str(self.export.path),
            kind=self.export.kind,
            bytes=size_on_disk(self.export.path),
            load_seconds=self.export.load_seconds,
            identical=statistics.fmean(self.comparison.agreement),
            difference=self.comparison.difference,
            differences=tuple(sorted(self.comparison.differences)),
        )
        return dataclasses.replace(result, broken=find_broken(result, own, self.limits))


def _group(
    task: Task, exports: Sequence[Export], tolerances: Tolerances, *, scored: bool
) -> Iterable[list[_Member]]:
    """Groups the signatures that are compared with the same outputs of the model."""
    groups: dict[Any, list[_Member]] = {}
    for export in exports:
        about = export.description
        checks = [
            check
            for check in task.signature_checks(about, export.form)
            if export.keeps_n_best or not check.n_best
        ]
        if not checks:
            names = ", ".join(about.signatures)
            raise InputError(f"{export.path} has no signature to compare, only {names}.")
        gives_text = checks[0].best_texts is not None
        if scored and not gives_text:
            raise InputError(
                f"{export.path} is {with_article(about.kind)} whose {checks[0].signature} gives no "
                "text: --reference does not go with it."
            )
        if not scored:
            check_demands(export.path, about, tolerances, scorable=gives_text)
        seen: collections.Counter[str] = collections.Counter()
        for check in checks:
            function = getattr(check.function, "python_function", check.function)
            member = _Member(task, export, check, tolerances.of(about), is_first=check is checks[0])
            # A signature may be compared with several sets of inputs.
            number = seen[check.signature]
            seen[check.signature] += 1
            key = check.signature, number, check.max_examples, function, member.is_first
            groups.setdefault(key, []).append(member)
    return groups.values()


def _compare(
    members: Sequence[_Member],
    examples: Sequence[Any],
    references: Sequence[str] | None,
    batch_size: int,
) -> list[Result]:
    """Compares one signature; returns the model's result, then those of the exports."""
    check = members[0].check
    examples = examples[: check.max_examples]
    model = Runner(check, partial(run_model, check.function))
    # Inputs are prepared once for all exports of a batch size: images are slow to decode.
    prepares = {each.batch_size: each.check.prepare for each in members}
    inputs = {size: prepare(examples[:1]) for size, prepare in prepares.items()}
    model.start(inputs[members[0].batch_size])
    for each in members:
        each.runner.start(inputs[each.batch_size])
    # All take turns, so that other load of the machine slows all alike.
    for places in _batches(examples, batch_size):
        batch = {i: examples[i] for i in places}
        inputs = {size: prepare([*batch.values()]) for size, prepare in prepares.items()}
        expected = model.run(batch, inputs[members[0].batch_size])
        for each in members:
            outputs = each.runner.run(batch, inputs[each.batch_size])
            each.comparison.add(batch, expected, outputs)
    own = model.result(references, name="model", kind="model")
    return [own, *(each.result(own, references) for each in members)]


def _batches(examples: Sequence[Any], batch_size: int) -> Iterable[Sequence[int]]:
    """Yields the places of the examples of each batch; texts of like length go together."""
    if all(isinstance(example, str) for example in examples):
        return batches_by_length(examples, batch_size)
    return (range(len(examples))[i : i + batch_size] for i in range(0, len(examples), batch_size))
