import asyncio
import threading
import time

import pytest
import uvloop

from ktransformer.serving.batching import Batcher, DeadlineError, TooBusyError


class Recorder:
    """A function of batches that waits for a gate and notes what it was called with."""

    def __init__(self):
        self.gate = threading.Event()
        self.batches = []

    def __call__(self, kind, items):
        self.gate.wait(10)
        self.batches.append((kind, list(items)))
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]


def run(work, recorder, **options):
    """Runs `work(batcher)` in an event loop."""
    options = {"concurrency": 1, "max_size": 4, "max_waiting": 100, **options}

    async def main():
        batcher = Batcher(recorder, **options)
        try:
            return await work(batcher)
        finally:
            recorder.gate.set()
            await batcher.drain()

    return asyncio.run(main())


def later(seconds=10.0):
    return time.monotonic() + seconds


async def submit_all(batcher, recorder, items, sizes=None):
    """Submits items, of kinds by their first letter, while the first keeps the thread busy."""
    tasks = [
        asyncio.ensure_future(batcher.submit(item[0], item, size, later()))
        for item, size in zip(items, sizes or [1] * len(items), strict=True)
    ]
    await asyncio.sleep(0.05)
    recorder.gate.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_waits_is_joined_by_kind_in_order():
    recorder = Recorder()
    items = ["a0", "a1", "b1", "a2", "b2", "a3"]
    assert run(lambda b: submit_all(b, recorder, items), recorder) == [i.upper() for i in items]
    assert recorder.batches == [("a", ["a0"]), ("a", ["a1", "a2", "a3"]), ("b", ["b1", "b2"])]


def test_a_batch_has_at_most_the_size_and_a_larger_item_is_alone():
    recorder = Recorder()
    items, sizes = ["a0", "a1", "a2", "a3", "a4"], [1, 3, 9, 1, 1]
    run(lambda b: submit_all(b, recorder, items, sizes), recorder)
    assert [batch for _, batch in recorder.batches] == [["a0"], ["a1", "a3"], ["a2"], ["a4"]]


def test_a_batch_has_a_share_of_all_that_waits_and_runs():
    busy, last = threading.Event(), threading.Event()
    batches = []

    def run_batch(kind, items):
        {"a0": busy, "a1": last}.get(items[0], last).wait(10)
        batches.append(len(items))
        return items

    async def work():
        batcher = Batcher(run_batch, concurrency=2, max_size=100, max_waiting=100)
        tasks = [asyncio.ensure_future(batcher.submit("a", f"a{n}", 1, later())) for n in range(8)]
        busy.set()  # a0 ends: a1 runs, and six wait.
        await tasks[0]
        running = batcher.waiting_size
        last.set()
        await asyncio.gather(*tasks)
        return running

    assert asyncio.run(work()) == 2
    assert sum(batches) == 8
    assert max(batches) == 4


class Slow:
    """A function of batches that takes a second for one of three items."""

    def __init__(self):
        self.sizes = []

    def __call__(self, kind, items):
        time.sleep(1.0 if len(items) == 3 else 0.01)
        self.sizes.append(len(items))
        return items


def submit(batcher, count):
    return [asyncio.ensure_future(batcher.submit("a", "a", 1, later())) for _ in range(count)]


def test_a_thread_waits_for_as_many_items_as_it_had():
    slow = Slow()

    async def work():
        batcher = Batcher(slow, concurrency=1, max_size=100, max_waiting=100)
        await asyncio.gather(*submit(batcher, 4))  # One, and then the three that waited for it.
        one = submit(batcher, 1)
        await asyncio.sleep(0)
        assert batcher.waiting_size == 1
        await asyncio.gather(*one, *submit(batcher, 1))

    asyncio.run(work())
    assert slow.sizes == [1, 3, 2]


def test_a_thread_does_not_wait_for_others_once_a_whole_batch_waits():
    slow = Slow()

    async def work():
        batcher = Batcher(slow, concurrency=1, max_size=3, max_waiting=100)
        await asyncio.gather(*submit(batcher, 4))
        large = asyncio.ensure_future(batcher.submit("a", "large", 3, later()))
        await asyncio.sleep(0)
        assert batcher.waiting_size == 0
        await large

    asyncio.run(work())
    assert slow.sizes == [1, 3, 1]


def test_what_waits_for_others_runs_when_all_is_to_end():
    slow = Slow()

    async def work():
        batcher = Batcher(slow, concurrency=1, max_size=100, max_waiting=100)
        await asyncio.gather(*submit(batcher, 4))
        (last,) = submit(batcher, 1)
        await asyncio.sleep(0)
        assert batcher.waiting_size == 1
        await batcher.drain()
        assert last.done()

    asyncio.run(work())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_nothing_waits_longer_for_others_on_a_loop_whose_timers_come_early(loop):
    """Ray runs uvloop, which rounds them to milliseconds."""

    def run_batch(kind, items):
        time.sleep(0.026)
        return items

    async def work():
        batcher = Batcher(run_batch, concurrency=1, max_size=100, max_waiting=100)
        for _ in range(5):
            await asyncio.gather(*submit(batcher, 4))
            (alone,) = submit(batcher, 1)
            await asyncio.wait_for(alone, 2)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())


def test_an_item_without_a_size_runs():
    async def work():
        batcher = Batcher(lambda kind, items: items, concurrency=1, max_size=9, max_waiting=9)
        return await batcher.submit("a", "a", 0, later(1))

    assert asyncio.run(work()) == "a"


def test_as_many_batches_run_as_there_are_threads():
    recorder = Recorder()

    async def work(batcher):
        tasks = [asyncio.ensure_future(batcher.submit(n, "a", 1, later())) for n in range(5)]
        await asyncio.sleep(0.05)
        running = len(batcher._running)
        recorder.gate.set()
        await asyncio.gather(*tasks)
        return running

    assert run(work, recorder, concurrency=3) == 3


def test_an_item_that_fails_fails_alone():
    recorder = Recorder()

    async def work(batcher):
        names = ["a0", "a1", "bad", "a2"]
        tasks = [asyncio.ensure_future(batcher.submit("a", n, 1, later())) for n in names]
        await asyncio.sleep(0.05)
        recorder.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    *good, last = run(work, recorder)
    assert (good[0], good[1], last) == ("A0", "A1", "A2")
    assert isinstance(good[2], ValueError)


def test_an_item_whose_deadline_comes_is_dropped():
    recorder = Recorder()

    async def work(batcher):
        first = asyncio.ensure_future(batcher.submit("a", "a0", 1, later()))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineError):
            await batcher.submit("a", "late", 1, later(0.05))
        recorder.gate.set()
        done = await first
        await batcher.drain()
        return done, batcher.waiting_size

    assert run(work, recorder) == ("A0", 0)
    assert recorder.batches == [("a", ["a0"])]


def test_room_is_for_what_waits_and_for_one_request_of_any_size():
    recorder = Recorder()

    async def work(batcher):
        batcher.check_room(1000)  # Nothing waits.
        tasks = [asyncio.ensure_future(batcher.submit("a", "a", 3, later())) for _ in range(3)]
        await asyncio.sleep(0.05)
        batcher.check_room(4)  # One runs, two wait.
        with pytest.raises(TooBusyError):
            batcher.check_room(5)
        recorder.gate.set()
        await asyncio.gather(*tasks)

    run(work, recorder, max_waiting=10)


def test_batches_are_reported():
    recorder, reports = Recorder(), []
    items, sizes = ["a0", "a1", "a2"], [1, 2, 2]
    run(lambda b: submit_all(b, recorder, items, sizes), recorder, on_batch=reports.append)
    assert [(r.kind, r.items, r.size) for r in reports] == [("a", 1, 1), ("a", 2, 4)]
    assert all(waited >= 0.04 for waited in reports[1].waited)
