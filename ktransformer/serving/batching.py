"""Joins what many requests wait for into batches, in the order in which it came."""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_LOOK_AHEAD = 64  # Items of other kinds, or too large, that a batch looks past.
_PATIENCE = 0.05  # The share of a batch's time for which its thread waits for as large a batch,
_MOST_PATIENCE = 0.1  # at most so many seconds.

# Runs a batch of items of one kind: (kind, items) -> as many results.
RunBatch = Callable[[Hashable, list[Any]], Sequence[Any]]


async def run_all(coroutines: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Runs coroutines at once, and returns their results; where one fails, the others end."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await end_all(tasks)


async def end_all(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancels tasks that run, and waits until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TooBusyError(RuntimeError):
    """So much is waiting already that a request was not taken."""


class DeadlineError(RuntimeError):
    """An item waited until its deadline."""


@dataclasses.dataclass(eq=False)
class _Waiting:
    """An item that waits for a batch."""

    kind: Hashable
    item: Any
    size: int
    came: float
    result: asyncio.Future[Any]
    waits: bool = True


@dataclasses.dataclass(eq=False)
class _FreeThread:
    """A thread that is free.

    Attributes:
        items: It takes a batch when so many items wait: as many as it had last, while it has
            patience, and then any.
    """

    items: int = 1

    def lose_patience(self) -> None:
        self.items = 1


@dataclasses.dataclass(frozen=True)
class BatchReport:
    """What a batch was.

    Attributes:
        kind: The kind of its items.
        items: How many.
        size: Their size together.
        waited: Seconds that each item waited.
        took: Seconds that the batch ran.
    """

    kind: Hashable
    items: int
    size: int
    waited: list[float]
    took: float


class Batcher:
    """Runs items in batches, in threads of its own, as soon as one is free.

    A batch has the item that has waited longest, and as many of the same kind behind it as fit into
    a thread's share of all that waits and runs. Nothing waits for a batch to become full: while all
    threads are busy the next batch grows. Only a thread that has just run a batch waits for as many
    items to come again, a twentieth of the time that this batch took, and not once a whole batch
    waits. Otherwise callers that ask again as soon as they are answered would split into a batch of
    one and a batch of the rest.

    Args:
        run: Runs a batch; called in `concurrency` threads at a time.
        concurrency: Batches at a time, at least 1.
        max_size: The most size of a batch's items together. An item that is larger is a batch of
            its own.
        max_waiting: The most size of all that waits.
        on_batch: Told of each batch that ran, in the event loop.
    """

    def __init__(
        self,
        run: RunBatch,
        *,
        concurrency: int,
        max_size: int,
        max_waiting: int,
        on_batch: Callable[[BatchReport], object] = lambda report: None,
    ) -> None:
        self._run = run
        self._concurrency = concurrency
        self._free = [_FreeThread() for _ in range(concurrency)]
        self._draining = False
        self._max_size = max_size
        self._max_waiting = max_waiting
        self._on_batch = on_batch
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="batch")
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._running: set[asyncio.Task[None]] = set()
        self._running_size = 0
        self.waiting_size = 0

    def check_room(self, size: int) -> None:
        """Checks that a request of this size may submit its items now; any may if nothing waits.

        Raises:
            TooBusyError: Too much waits already.
        """
        if self._waiting and self.waiting_size + size > self._max_waiting:
            raise TooBusyError

    async def submit(self, kind: Hashable, item: Any, size: int, deadline: float) -> Any:
        """Runs an item in a batch with others of its kind.

        Args:
            kind: What its batch is to be run as.
            item: The item.
            size: Its size, such as a number of tokens.
            deadline: When its result is of no use any more, by `time.monotonic`.

        Raises:
            DeadlineError: The deadline came first.
        """
        now = time.monotonic()
        result = asyncio.get_running_loop().create_future()
        waiting = _Waiting(kind, item, size, now, result)
        self._waiting.append(waiting)
        self.waiting_size += size
        self._start()
        try:
            return await asyncio.wait_for(result, max(deadline - now, 0))
        except TimeoutError:
            raise DeadlineError from None
        finally:
            self._leave(waiting)

    def _start(self) -> None:
        """Starts batches while there is a free thread and something waits."""
        while (thread := self._find_thread()) and (batch := self._take()):
            self._free.remove(thread)
            self._running_size += _size(batch)
            task = asyncio.get_running_loop().create_task(self._run_batch(batch))
            self._running.add(task)  # The loop itself keeps no reference.
            task.add_done_callback(self._running.discard)

    def _find_thread(self) -> _FreeThread | None:
        count = len(self._waiting)
        whole = self.waiting_size >= self._max_size
        return next((each for each in self._free if whole or each.items <= count), None)

    def _take(self) -> list[_Waiting]:
        """Takes the items of the next batch; those whose callers have gone are dropped."""
        batch: list[_Waiting] = []
        others: list[_Waiting] = []
        size = 0
        share = (self.waiting_size + self._running_size) / self._concurrency
        most = min(self._max_size, share)
        while self._waiting and len(others) < _LOOK_AHEAD and (size < most or not batch):
            each = self._waiting.popleft()
            if each.result.done():
                continue
            if batch and (each.kind != batch[0].kind or size + each.size > self._max_size):
                others.append(each)
            else:
                batch.append(each)
                size += each.size
                self._leave(each)
        self._waiting.extendleft(reversed(others))
        return batch

    def _leave(self, waiting: _Waiting) -> None:
        """Counts an item no more among those that wait; it runs, or its caller has gone."""
        if waiting.waits:
            waiting.waits = False
            self.waiting_size -= waiting.size

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        started = time.monotonic()
        try:
            results = await self._find_results(batch)
        finally:
            self._running_size -= _size(batch)
            took = time.monotonic() - started
            self._release(len(batch), took)
        for each, result in zip(batch, results, strict=True):
            if each.result.done():  # Its caller has gone.
                continue
            if isinstance(result, Exception):
                each.result.set_exception(result)
            else:
                each.result.set_result(result)
        self._on_batch(
            BatchReport(
                batch[0].kind,
                len(batch),
                _size(batch),
                [started - each.came for each in batch],
                took,
            )
        )

    def _release(self, items: int, took: float) -> None:
        """Frees the thread of a batch; for a while it takes only one that is as large."""
        thread = _FreeThread(1 if self._draining else items)
        self._free.append(thread)
        self._start()

        def lose_patience() -> None:
            thread.lose_patience()
            self._start()

        patience = min(_PATIENCE * took, _MOST_PATIENCE)
        asyncio.get_running_loop().call_later(patience, lose_patience)

    async def _find_results(self, batch: list[_Waiting]) -> Sequence[Any]:
        """Runs a batch; where it fails, its items one by one, so that one fails alone."""
        items = [each.item for each in batch]
        try:
            results = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._run, batch[0].kind, items
            )
            if len(results) != len(items):
                raise ValueError(f"A batch of {len(items)} items gave {len(results)} results.")
            return results
        except Exception as error:
            if len(batch) == 1:
                return [error]
        return [result for each in batch for result in await self._find_results([each])]

    async def drain(self) -> None:
        """Waits until nothing runs or waits."""
        self._draining = True
        for thread in self._free:
            thread.lose_patience()
        self._start()
        while self._running:
            await asyncio.gather(*self._running)


def _size(batch: Sequence[_Waiting]) -> int:
    return sum(each.size for each in batch)
