"""Things that many threads share, one thread at a time each: first come, first served."""

import bisect
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Lends things to threads in the order in which these ask.

    With R things, a thread waits at most until those that asked before it are done, of which R run
    at a time: no thread can ask again and be served before it. Of things that lie idle, the first
    is lent, so that a single thread always has the same, or the last for those that ask so.

    Args:
        things: The things to lend.
    """

    def __init__(self, things: Iterable[T]) -> None:
        self._lock = threading.Lock()
        self._things = list(things)
        self._idle = list(range(len(self._things)))  # Sorted; empty wherever a thread waits.
        self._waiting: deque[queue.SimpleQueue[int]] = deque()

    @property
    def waiting(self) -> int:
        """The number of threads that wait for their turn."""
        return len(self._waiting)

    @contextlib.contextmanager
    def take(self, *, last: bool = False) -> Iterator[T]:
        """Lends one of the things to a block, which waits for its turn.

        Args:
            last: Whether it is the last of those that lie idle.
        """
        number = self._take(-1 if last else 0)
        try:
            yield self._things[number]
        finally:
            self._give(number)

    def _take(self, index: int) -> int:
        with self._lock:
            if self._idle:
                return self._idle.pop(index)
            place: queue.SimpleQueue[int] = queue.SimpleQueue()
            self._waiting.append(place)
        try:
            return place.get()
        except BaseException:  # Interrupted while it waits: its turn goes to the next.
            self._leave(place)
            raise

    def _leave(self, place: queue.SimpleQueue[int]) -> None:
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
                return
        self._give(place.get_nowait())

    def _give(self, number: int) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().put(number)
            else:
                bisect.insort(self._idle, number)
