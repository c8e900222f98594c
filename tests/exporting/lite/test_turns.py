"""Who is served when, where threads share the interpreters of a .tflite."""

import threading
import time

import pytest

from ktransformer.engines import LiteEngine
from ktransformer.exporting.lite.turns import Turns


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_are_served_in_the_order_in_which_they_ask():
    turns, served = Turns(["the only one"]), []

    def ask(place: int) -> None:
        with turns.take():
            served.append(place)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
    with turns.take():
        for i, thread in enumerate(threads):
            thread.start()
            wait_until(lambda count=i + 1: turns.waiting == count)
    for thread in threads:
        thread.join()
    assert served == list(range(20))


def test_a_thread_that_asks_again_comes_after_those_that_wait():
    turns, served = Turns(["the only one"]), []

    def ask() -> None:
        with turns.take():
            served.append("other")

    other = threading.Thread(target=ask)
    with turns.take():
        other.start()
        wait_until(lambda: turns.waiting == 1)
    with turns.take():
        served.append("again")
    other.join()
    assert served == ["other", "again"]


def test_the_first_that_is_idle_is_the_next():
    turns = Turns(["first", "second", "third"])
    with turns.take() as one:
        with turns.take() as other:
            assert (one, other) == ("first", "second")
        with turns.take() as used:
            assert used == "second"
    for _ in range(3):
        with turns.take() as used:
            assert used == "first"


def test_the_last_that_is_idle_is_the_next_of_those_that_ask_so():
    turns = Turns(["first", "second", "third"])
    with turns.take(last=True) as one, turns.take(last=True) as other, turns.take() as whole:
        assert (one, other, whole) == ("third", "second", "first")
    with turns.take(last=True) as used:
        assert used == "third"


def test_an_interrupted_thread_leaves_its_place_to_the_next(monkeypatch):
    class Interrupted:
        def get(self):
            raise KeyboardInterrupt

    turns = Turns(["the only one"])
    with turns.take():
        with monkeypatch.context() as patched:
            patched.setattr("ktransformer.exporting.lite.turns.queue.SimpleQueue", Interrupted)
            with pytest.raises(KeyboardInterrupt), turns.take():
                pass
        assert turns.waiting == 0
    with turns.take() as thing:
        assert thing == "the only one"


@pytest.mark.parametrize(("threads", "replicas"), [(8, 1), (32, 4)])
def test_the_99th_percentile_of_waits_is_under_three_fair_shares(threads, replicas):
    turns, begun, waits = Turns(range(replicas)), [], []

    def call_often() -> None:
        for _ in range(50):
            before = len(begun)
            with turns.take():
                waits.append(len(begun) - before)  # In calls of others, not in seconds.
                begun.append(None)
                time.sleep(0.0002)

    workers = [threading.Thread(target=call_often) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(waits) == 50 * threads
    assert sorted(waits)[int(0.99 * len(waits))] < 3 * threads


@pytest.mark.parametrize(("threads", "replicas"), [(8, 1), (32, 4)])
def test_threads_that_share_an_engine_get_equal_shares(lite_file, threads, replicas):
    engine = LiteEngine(lite_file, replicas=replicas)
    engine.warmup()
    calls = [0] * threads
    ready = threading.Barrier(threads)

    def call_often(place: int) -> None:
        ready.wait()
        while sum(calls) < 20 * threads:
            assert engine.translate(["nine"]) == ["9"]
            calls[place] += 1

    workers = [threading.Thread(target=call_often, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sum(calls) >= 20 * threads
    assert min(calls) > 20 / 3  # Of 20 that are its fair share.
