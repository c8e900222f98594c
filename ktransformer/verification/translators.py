"""Proof that an export says what its run says: both translate a text, and are compared."""

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ktransformer.engines import Engine, ModelEngine, Translation, batches_by_length
from ktransformer.engines.opening import load_engine, load_translator
from ktransformer.errors import InputError
from ktransformer.files import json_text, readable_size, size_on_disk
from ktransformer.scores import score_texts
from ktransformer.verification.n_best import NBest, compare_n_best
from ktransformer.verification.tolerances import Tolerances, check_demands

_N_BEST_TEXTS = 100  # A search for all of a beam takes as long as that for the best.


@dataclasses.dataclass(frozen=True)
class Difference:
    """A text that an export translates in another way than its run; lines count from 1."""

    line: int
    source: str
    run: str
    export: str
    run_score: float
    export_score: float


@dataclasses.dataclass(frozen=True)
class Result:
    """What one engine made of the text.

    Attributes:
        name: The path of the export or run.
        kind: `run`, `SavedModel` or `tflite`, and how it is quantised.
        bytes: Its size on the disk.
        load_seconds: To open it and translate a first line, without the imports.
        milliseconds: A sentence, the median over the batches, all engines taking turns.
        bleu: Against the reference; None without one. sacreBLEU, 13a, cased.
        chrf: Likewise.
        exact_match: Share of texts that are the reference; None without one.
        identical: Share of texts that are the run's.
        score_difference: The greatest between identical texts' scores.
        differences: All texts that differ.
        n_best: The same of the n-best translations of the first 100 texts, see `compare_n_best`.
        broken: The tolerances that do not hold, in words.
    """

    name: str
    kind: str
    bytes: int
    load_seconds: float
    milliseconds: float
    bleu: float | None
    chrf: float | None
    exact_match: float | None = None
    identical: float = 1.0
    score_difference: float = 0.0
    differences: tuple[Difference, ...] = ()
    n_best: NBest | None = None
    broken: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """The comparison of a run with its exports.

    Attributes:
        sentences: How many were translated.
        truncated: How many of them the run cut to its longest source.
        batch_size: Sentences translated at once.
        threads: CPU threads; None for one a core.
        results: The run's own first, then each export's.
    """

    sentences: int
    truncated: int
    batch_size: int
    threads: int | None
    results: tuple[Result, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """All tolerances that do not hold, in words."""
        return tuple(broken for result in self.results for broken in result.broken)

    def to_json(self) -> str:
        """Returns the report as JSON, null where a number is none."""
        return json_text(dataclasses.asdict(self))

    def to_text(self, *, differences: int = 3) -> str:
        """Returns a Markdown table, each export's first differences, and the verdict."""
        threads = f"threads: {self.threads or 'one a core'}"
        lines = [
            f"{self.sentences} sentences in batches of {self.batch_size}, {threads}; "
            f"{self.truncated} of them were cut to the longest source. Load: to open it and "
            "translate a first line, imports aside.",
            "",
            "| what | kind | size | load, s | ms a sentence | identical | score difference "
            "| BLEU | chrF | exact match |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for result in self.results:
            lines.append(
                f"| {result.name} | {result.kind} | {readable_size(result.bytes)} "
                f"| {result.load_seconds:.2f} | {result.milliseconds:.1f} "
                f"| {result.identical:.4f} | {result.score_difference:.6f} "
                f"| {_score(result.bleu)} | {_score(result.chrf)} "
                f"| {_score(result.exact_match, 4)} |"
            )
        for result in self.results:
            for difference in result.differences[:differences]:
                lines += ["", f"{result.name}, line {difference.line}: {difference.source}"]
                lines += [f"  run     {difference.run_score:9.5f}  {difference.run}"]
                lines += [f"  export  {difference.export_score:9.5f}  {difference.export}"]
        verdict = [f"BROKEN: {broken}" for broken in self.broken]
        return "\n".join([*lines, "", *(verdict or ["All tolerances hold."])])


def verify(
    exports: Sequence[str | Path],
    run: str | Path,
    sources: Sequence[str],
    references: Sequence[str] | None = None,
    *,
    tolerances: Tolerances | None = None,
    threads: int | None = None,
    batch_size: int = 1,
) -> Report:
    """Translates a text with a run and with exports of it, and compares.

    Args:
        exports: SavedModels and .tflite files, exported with the same decoding settings.
        run: The run's folder.
        sources: The text, a sentence each.
        references: Its translations, for BLEU, chrF and exact matches.
        tolerances: What may differ.
        threads: CPU threads of LiteRT; TensorFlow's are set for the process.
        batch_size: Sentences translated at once.

    Raises:
        InputError: The text is empty, an export is not of this run, the exports differ in their
            decoding, or nothing is demanded of one.
    """
    if not sources:
        raise InputError("There is no text to compare the exports on.")
    tolerances = tolerances or Tolerances()
    engines, loading = _open_all(exports, sources[0], threads)
    if references is None:
        for engine in engines:
            check_demands(engine.path, engine.description, tolerances, others="--reference, ")
    start = time.perf_counter()
    engines.insert(0, _open_run(run, engines, sources[0]))
    loading.insert(0, time.perf_counter() - start)
    translations, times = _translate_all(engines, sources, batch_size)
    results: list[Result] = []
    for i, path in enumerate([run, *exports]):
        result = Result(
            name=str(path),
            kind=_kind(engines[i]),
            bytes=size_on_disk(engines[i].path or Path(path)),
            load_seconds=loading[i],
            milliseconds=1000 * times[i],
            **_scores(translations[i], references),
            **_differences(sources, translations[0], translations[i]),
        )
        limits = tolerances.of(engines[i].description)
        if results:
            n_best = compare_n_best(engines[0], engines[i], sources[:_N_BEST_TEXTS], limits)
            result = dataclasses.replace(result, n_best=n_best)
        broken = _broken(result, results[0], limits) if results else ()
        results.append(dataclasses.replace(result, broken=broken))
    truncated = sum(translation.truncated for translation in translations[0])
    return Report(len(sources), truncated, batch_size, threads, tuple(results))


def _open_all(
    paths: Sequence[str | Path], text: str, threads: int | None
) -> tuple[list[Engine], list[float]]:
    engines, loading = [], []
    for path in paths:
        start = time.perf_counter()
        engine = load_engine(path, threads=threads)
        if isinstance(engine, ModelEngine):
            raise InputError(f"{path} is a run; exports of --run were to be named.")
        engine.translate([text])
        engines.append(engine)
        loading.append(time.perf_counter() - start)
    if len({_decoding(engine) for engine in engines}) > 1:
        raise InputError("The exports search in different ways: verify them one by one.")
    return engines, loading


def _decoding(engine: Engine) -> Any:
    about = engine.description
    return dataclasses.replace(
        about.decoding,
        max_source_length=about.max_source_length,
        max_target_length=about.max_target_length,
    )


def _open_run(path: str | Path, engines: Sequence[Engine], text: str) -> Engine:
    """Opens the run so that it searches as its exports do."""
    translator = load_translator(path, **dataclasses.asdict(_decoding(engines[0])))
    model = ModelEngine(translator)
    for engine in engines:
        if engine.description.tokenizer_sha256 != model.description.tokenizer_sha256:
            raise InputError(f"{engine.path} has another tokenizer than {path}: not of this run.")
    model.translate([text])
    return model


def _translate_all(
    engines: Sequence[Engine], sources: Sequence[str], batch_size: int
) -> tuple[list[list[Translation]], list[float]]:
    """Translates batches of like length, each with every engine in turn.

    Returns:
        Each engine's translations, in order, and its seconds a sentence, the median of batches:
        what else the machine does meanwhile slows all engines alike.
    """
    found: list[dict[int, Translation]] = [{} for _ in engines]
    seconds: list[list[float]] = [[] for _ in engines]
    for chosen in batches_by_length(sources, batch_size):
        texts = [sources[i] for i in chosen]
        for engine, translations, times in zip(engines, found, seconds, strict=True):
            begin = time.perf_counter()
            batch = engine.translate_n_best(texts)
            times.append((time.perf_counter() - begin) / len(chosen))
            translations.update(zip(chosen, batch, strict=True))
    lines = [[translations[i] for i in range(len(sources))] for translations in found]
    return lines, [statistics.median(times) for times in seconds]


def _scores(
    translations: Sequence[Translation], references: Sequence[str] | None
) -> dict[str, Any]:
    if references is None:
        return {"bleu": None, "chrf": None, "exact_match": None}
    scores = score_texts([translation.text for translation in translations], references)
    return {"bleu": scores.bleu, "chrf": scores.chrf, "exact_match": scores.exact_match}


def _differences(
    sources: Sequence[str], expected: Sequence[Translation], found: Sequence[Translation]
) -> dict[str, Any]:
    pairs = list(zip(expected, found, strict=True))
    same = [abs(a.scores[0] - b.scores[0]) for a, b in pairs if a.text == b.text]
    return {
        "identical": len(same) / len(pairs),
        "score_difference": float(np.max(same, initial=0.0)),  # Not a number if one is not.
        "differences": tuple(
            Difference(i + 1, sources[i], a.text, b.text, a.scores[0], b.scores[0])
            for i, (a, b) in enumerate(pairs)
            if a.text != b.text
        ),
    }


def _broken(result: Result, run: Result, limits: dict[str, float]) -> tuple[str, ...]:
    """Says which limits do not hold; each is tested so that NaN breaks it."""
    broken = []
    if not result.identical >= limits.get("min_identical", 0.0):
        broken.append(
            f"{result.name}: {result.identical:.4f} of the texts are identical, "
            f"at least {limits['min_identical']} were to be."
        )
    if not result.identical and "max_score_difference" in limits and "min_identical" not in limits:
        broken.append(f"{result.name}: no text is identical, so there were no scores to compare.")
    if not result.score_difference <= limits.get("max_score_difference", math.inf):
        broken.append(
            f"{result.name}: scores of identical texts differ by {result.score_difference:.6f}, "
            f"at most {limits.get('max_score_difference', math.inf)} was allowed."
        )
    if result.n_best is not None:
        broken += result.n_best.broken(result.name, limits)
    broken += _lost(result, run, limits["max_bleu_drop"], alone=limits.keys() == {"max_bleu_drop"})
    return tuple(broken)


def _lost(result: Result, run: Result, limit: float, *, alone: bool) -> list[str]:
    """Says which scores fall by more than a number of points; exact matches are in percent.

    Where the run's BLEU could not fall so far, as it is near 0 for references of few words, chrF
    and exact matches decide.

    Args:
        result: What the export made of the text.
        run: What the run made of it.
        limit: The points.
        alone: Whether nothing else is demanded, so that a text must show something.
    """
    if run.bleu is None:
        return []
    own, other = _points(run), _points(result)
    names = ["BLEU"] if run.bleu > limit else list(own)
    broken = [
        f"{result.name}: {own[name] - other[name]:.2f} {name} are lost, "
        f"at most {limit} were allowed."
        for name in names
        if not own[name] - other[name] <= limit
    ]
    if alone and all(own[name] <= limit for name in names):
        low = ", ".join(f"{name} {own[name]:.2f}" for name in names)
        broken.append(
            f"{result.name}: nothing was demanded, for the run's own scores are {low}: state "
            "min_identical or max_score_difference."
        )
    return broken


def _points(result: Result) -> dict[str, float]:
    """Returns the scores against the reference, all from 0 to 100."""
    return {
        "BLEU": result.bleu or 0.0,
        "chrF": result.chrf or 0.0,
        "exact matches": 100 * (result.exact_match or 0.0),
    }


def _kind(engine: Engine) -> str:
    about, words = engine.description, [engine.kind]
    if about.quantization != "none":
        words.append(about.quantization)
    if about.shortlist is not None:
        words.append(f"shortlist of {about.shortlist}")
    return ", ".join(words)


def _score(score: float | None, digits: int = 2) -> str:
    return "" if score is None else f"{score:.{digits}f}"
