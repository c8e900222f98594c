"""Translates whole corpora, in one process or on a Ray cluster, with the same bytes."""

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ktransformer.corpora.executors import Executor, LocalExecutor
from ktransformer.corpora.formats import find_format, open_format
from ktransformer.corpora.job import Job
from ktransformer.corpora.report import Report, total
from ktransformer.corpora.shards import Shard, join_keys
from ktransformer.corpora.workspace import Workspace
from ktransformer.errors import InputError
from ktransformer.files import new_file, resolve
from ktransformer.numbers import to_integer


@dataclasses.dataclass
class Progress:
    """How far a corpus is.

    Attributes:
        texts: Texts that are done.
        total: Texts of all inputs.
        earlier: Those of them that an earlier run had done.
    """

    texts: int
    total: int
    earlier: int


def translate_corpus(
    model: str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    ray: str | None = None,
    workers: int | None = None,
    format: str | None = None,
    field: str | None = None,
    output_field: str | None = None,
    on_progress: Callable[[Progress], object] = lambda progress: None,
    **options: Any,
) -> Report:
    """Translates files into files of the same names and order, and goes on where it was killed.

    Every input is checked from end to end before the first text is translated. A shard that is
    done is kept: called again with the same arguments, what is done is not done again. See
    docs/corpora.md.

    Args:
        model: The model in any form that `load_engine` opens; on a cluster, at this path on every
            node.
        inputs: The files, of different names; on every node.
        output: The folder to write, new, empty or of an earlier call; on every node.
        ray: None for this process; `local`, `auto` or `HOST:PORT` for Ray; see `joined_cluster`.
        workers: Batches at a time in this process, or shards at a time on Ray; None for one a core.
        format: `text`, `jsonl` or `parquet`; None for what the files' names end in.
        field: The field or column to translate; None for `text`.
        output_field: That of the translation; None for `translation`.
        on_progress: Called now and then, at first when all inputs have been checked.
        **options: Further fields of `Job`: `n_best`, `batch_size`, `tag`, `terms`, ...

    Returns:
        The counts of all inputs.

    Raises:
        InputError: An input is broken, the folder belongs to another model or other options, or
            the model or an option is wrong.
        OSError: The output cannot be written.

    Example:
        ```python
        translate_corpus("m.tflite", ["a.txt", "b.txt.gz"], "translated", ray="auto")
        ```
    """
    paths = _check_inputs(inputs, output)
    target = resolve(output)
    if Path(os.path.realpath(model)) in (target, *target.parents):
        raise InputError(f"{output} lies in {model}, the model; name another folder.")
    output = str(Path(output).absolute())
    format = format or find_format(paths)
    if format != "text":
        field, output_field = field or "text", output_field or "translation"
    options = {name: _hashable(value) for name, value in options.items()}
    if options.get("adapter") is not None:
        options["adapter"] = str(Path(options["adapter"]).absolute())
    model = str(Path(model).absolute())
    job = Job(model, format=format, field=field, output_field=output_field, **options)
    if workers is not None:
        workers = to_integer("workers", workers, least=1)
    checksums = job.checksums()
    workspace = Workspace(output)
    with workspace.begin(job, checksums), contextlib.ExitStack() as stack:
        if ray is None:
            executor: Executor = LocalExecutor(job, output, checksums, workers)
        else:
            from ktransformer.corpora.on_ray import RayExecutor
            from ktransformer.runtime.ray_cluster import joined_cluster

            stack.enter_context(joined_cluster(ray, workers))
            executor = RayExecutor(job, output, checksums, workers)
        executor.check()
        return _Corpus(job, paths, workspace).translate(executor, on_progress)


class _Corpus:
    """The files of a corpus, their shards, and which of these are done."""

    def __init__(self, job: Job, paths: Sequence[str], workspace: Workspace) -> None:
        self._workspace = workspace
        self._format = open_format(job)
        self._files = [_File(path, list(self._format.survey(path))) for path in paths]

    def translate(self, executor: Executor, on_progress: Callable[[Progress], object]) -> Report:
        """Translates what is left and writes each output as soon as its last shard is done."""
        for file in self._files:
            file.report = self._workspace.read_record(file.name, file.source)
        unfinished = [file for file in self._files if file.report is None]
        # Equal shards are translated once, and their part stays until its last file is whole.
        self._users = Counter(key for file in unfinished for key in file.keys)
        waiting: dict[str, list[_File]] = {}
        for file in unfinished:
            file.missing = {key for key in file.keys if self._workspace.read_report(key) is None}
            for key in file.missing:
                waiting.setdefault(key, []).append(file)
        progress = self._begin_progress(waiting)
        on_progress(progress)
        for file in unfinished:
            if not file.missing:
                self._finish(file)
        for shard, _ in executor.run(_first_of(waiting, unfinished)):
            for file in waiting.pop(shard.key):
                file.missing.remove(shard.key)
                progress.texts += file.texts_of[shard.key]
                if not file.missing:
                    self._finish(file)
            on_progress(progress)
        self._workspace.remove_parts()
        return total(file.report for file in self._files if file.report is not None)

    def _begin_progress(self, waiting: dict[str, list["_File"]]) -> Progress:
        whole = sum(shard.count for file in self._files for shard in file.shards)
        left = sum(file.texts_of[key] for key, files in waiting.items() for file in files)
        return Progress(whole - left, whole, whole - left)

    def _finish(self, file: "_File") -> None:
        """Joins a file's parts to its output, records it and removes the parts."""
        reports = [self._workspace.read_report(key) for key in file.keys]
        file.report = total(report for report in reports if report is not None)
        with new_file(self._workspace.output / file.name) as path, path.open("wb") as output:
            self._format.join(file.path, self._contents(file), output)
        self._workspace.write_record(file.name, file.path, file.source, file.report)
        for key in file.keys:
            self._users[key] -= 1
        self._workspace.remove_parts(key for key in set(file.keys) if not self._users[key])

    def _contents(self, file: "_File") -> Iterator[BinaryIO]:
        for key in file.keys:
            with self._workspace.open_part(key) as (_, part):
                yield part


class _File:
    """An input file.

    Attributes:
        path: Its path.
        shards: Its shards, in order.
        missing: The keys of shards that are not done.
        report: The report of its output; None until that is whole.
    """

    def __init__(self, path: str, shards: list[Shard]) -> None:
        self.path, self.shards = path, shards
        self.missing: set[str] = set()
        self.report: Report | None = None
        self.source = join_keys(self.keys)
        self.texts_of: Counter[str] = Counter()  # Of all shards with a key.
        for shard in shards:
            self.texts_of[shard.key] += shard.count

    @property
    def name(self) -> str:
        return Path(self.path).name

    @property
    def keys(self) -> list[str]:
        return [shard.key for shard in self.shards]


def _first_of(waiting: dict[str, Any], files: Iterable[_File]) -> Iterator[Shard]:
    """Yields one shard of each key that waits, in the order of the inputs."""
    given: set[str] = set()
    for file in files:
        for shard in file.shards:
            if shard.key in waiting and shard.key not in given:
                given.add(shard.key)
                yield shard


def _check_inputs(inputs: Sequence[str | Path], output: str | Path) -> list[str]:
    """Returns the inputs' absolute paths."""
    if isinstance(inputs, (str, Path)):
        inputs = [inputs]
    paths = [str(Path(path).absolute()) for path in inputs]
    if not paths:
        raise InputError("There must be an input.")
    names: dict[str, str] = {}
    for path in paths:
        if not os.path.isfile(path):
            raise InputError(f"{path} is not a file.")
        name = Path(path).name
        if name in names:
            raise InputError(
                f"{names[name]} and {path} have one name, and so would their outputs; rename one."
            )
        names[name] = path
        if resolve(path).parent == resolve(output):
            raise InputError(f"{path} lies in {output}, where the output is to be written.")
    return paths


def _hashable(value: Any) -> Any:
    """Returns lists, such as terms, as tuples."""
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
