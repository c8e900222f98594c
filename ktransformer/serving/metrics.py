"""What a server counts and measures, for Prometheus, by Ray's metrics of a cluster."""

import asyncio
import urllib.request
from collections.abc import Sequence

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from ktransformer.serving.batching import BatchReport
from ktransformer.serving.observer import Observer
from ktransformer.serving.translated import TranslatedText

_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]
_POWERS = [float(2**power) for power in range(17)]
_SCORES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0]
_PREFIX = "ray_ktransformer_"  # Ray puts `ray_` before every name.


class Metrics(Observer):
    """The metrics of a replica.

    A batch waits and runs: `wait_seconds` and `run_seconds`; a request takes both, and reading and
    writing beside them. The scores of translations tell when texts become other ones than the model
    was trained for.
    """

    def __init__(self) -> None:
        by_model = ("model",)
        by_route = ("route", "status")
        self._requests = Counter("ktransformer_requests", "Requests.", by_route)
        self._request_seconds = Histogram(
            "ktransformer_request_seconds", "Time of a request.", _SECONDS, ("route",)
        )
        self._texts = Counter("ktransformer_texts", "Texts translated.", by_model)
        self._tokens = Counter("ktransformer_tokens", "Tokens of batches, estimated.", by_model)
        self._batch_items = Histogram(
            "ktransformer_batch_items", "Items of a batch.", _POWERS, by_model
        )
        self._wait_seconds = Histogram(
            "ktransformer_wait_seconds", "Time that an item waits for a batch.", _SECONDS, by_model
        )
        self._run_seconds = Histogram(
            "ktransformer_run_seconds", "Time that a batch runs.", _SECONDS, by_model
        )
        self._waiting_tokens = Gauge(
            "ktransformer_waiting_tokens", "Tokens that wait for a batch.", by_model
        )
        self._truncated = Counter("ktransformer_truncated_texts", "Texts cut off.", by_model)
        self._copied = Counter(
            "ktransformer_copied_texts", "Texts whose translation is the text itself.", by_model
        )
        self._scores = Histogram(
            "ktransformer_negative_score", "Scores of sentences, times -1.", _SCORES, by_model
        )
        self._versions = Gauge("ktransformer_model_version", "The version served.", by_model)

    def add_request(self, route: str, status: int, seconds: float) -> None:
        self._requests.inc(1, {"route": route, "status": str(status)})
        self._request_seconds.observe(seconds, {"route": route})

    def add_batch(self, model: str, report: BatchReport, waiting_tokens: int) -> None:
        tags = {"model": model}
        self._tokens.inc(report.size, tags)
        self._batch_items.observe(report.items, tags)
        self._run_seconds.observe(report.took, tags)
        for waited in report.waited:
            self._wait_seconds.observe(waited, tags)
        self._waiting_tokens.set(waiting_tokens, tags)

    def add_texts(self, model: str, found: Sequence[TranslatedText]) -> None:
        tags = {"model": model}
        for each in found:
            self._texts.inc(1, tags)
            if each.truncated:
                self._truncated.inc(1, tags)
            if each.sentences and each.text == each.source:
                self._copied.inc(1, tags)
            for sentence in each.sentences:
                self._scores.observe(-sentence.scores[0], tags)

    def set_version(self, model: str, version: int) -> None:
        self._versions.set(version, {"model": model})


async def read_metrics() -> str:
    """Returns ktransformer's metrics of all nodes of the cluster, as Prometheus reads them."""
    addresses = [
        f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for node in ray.nodes()
        if node["Alive"]
    ]
    pages = await asyncio.gather(*(asyncio.to_thread(_read_lines, each) for each in addresses))
    headers: dict[str, None] = {}  # In order, each once: nodes repeat them.
    samples: list[str] = []
    for line in (line for page in pages for line in page):
        if line.startswith("#"):
            headers[line] = None
        else:
            samples.append(line)
    return "\n".join([*_interleave(list(headers), samples), ""])


def _read_lines(address: str) -> list[str]:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            content = answer.read().decode()
    except OSError:  # A node that has just gone.
        return []
    return [line for line in content.splitlines() if _PREFIX in line.split("{")[0]]


def _interleave(headers: list[str], samples: list[str]) -> list[str]:
    """Puts the samples of a metric behind its headers."""
    lines: list[str] = []
    for header in headers:
        lines.append(header)
        name = header.split()[2]
        if header.startswith("# TYPE"):
            lines += [line for line in samples if line.startswith(name)]
    return lines
