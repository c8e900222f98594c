"""Progress of a training and the time it has left, as lines of the log."""

import logging
import sys
import time
from typing import Any

import keras

_log = logging.getLogger(__name__)
_ESTIMATE_UPDATES = 20
_LOG_SECONDS = 10.0


class ReportProgress(keras.callbacks.Callback):
    """Logs an estimate of a training's time and, unless stderr is a terminal, its progress.

    The estimate follows after 20 batches. Then a line comes every `interval_seconds`: batch, loss,
    tokens a second and time left. On a terminal Keras' progress bar takes its place.

    Args:
        batches: Batches of the whole training.
        tokens: Mean tokens of a batch, without padding; None if unknown.
        done: Batches that were done before.
        interval_seconds: Time between two lines.
    """

    def __init__(
        self,
        batches: int,
        tokens: float | None,
        *,
        done: int = 0,
        interval_seconds: float = _LOG_SECONDS,
    ) -> None:
        super().__init__()
        self._batches, self._tokens, self._done = batches, tokens, done
        self._interval = interval_seconds
        self._seen = 0
        self._began = self._reported = time.monotonic()
        self._at_report = done

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts a batch, and logs a line if the interval is over."""
        self._seen += 1
        self._done += 1
        now = time.monotonic()
        if self._seen == 1:  # Most of its time went into tracing the model.
            self._began, self._reported, self._at_report = now, now, self._done
            return
        if self._seen == _ESTIMATE_UPDATES:
            if sys.stderr.isatty():
                print(file=sys.stderr)  # Keras' bar stands in this line.
            _log.info(
                "%s batches took %s; the training will take about %s more.",
                self._seen,
                _duration(now - self._began),
                _duration(self._seconds_left(now)),
            )
        if now - self._reported >= self._interval and not sys.stderr.isatty():
            rate = (self._done - self._at_report) / max(now - self._reported, 1e-9)
            speed = f"{rate:,.1f} batches"
            if self._tokens is not None:
                speed = f"{rate * self._tokens:,.0f} tokens"
            _log.info(
                "batch %s of %s, loss %.4f, %s a second, %s left",
                f"{self._done:,}",
                f"{self._batches:,}",
                (logs or {}).get("loss", float("nan")),
                speed,
                _duration(self._seconds_left(now)),
            )
            self._reported, self._at_report = now, self._done

    def _seconds_left(self, now: float) -> float:
        """Returns the time that the remaining batches take at the mean speed so far."""
        return (self._batches - self._done) * (now - self._began) / max(self._seen - 1, 1)


def _duration(seconds: float) -> str:
    """Returns `8 s`, `12 min` or `3 h 5 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
