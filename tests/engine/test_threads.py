"""The threads that run the user's `def` functions."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import pytest

from helpers import wait_until
from lightbus.engine import threads as threads_module
from lightbus.engine.threads import HandlerThreads

LIMIT = 3


@pytest.fixture
def threads() -> Iterator[HandlerThreads]:
    """Return at most three threads."""
    made = HandlerThreads(LIMIT)
    yield made
    made.shutdown()


def handlers() -> list[threading.Thread]:
    """Return the existing threads."""
    return [thread for thread in threading.enumerate() if thread.name == "lightbus-handler"]


def occupy(threads: HandlerThreads, count: int) -> tuple[threading.Event, list[Future[bool]]]:
    """Start so many jobs, which run until the event is set."""
    proceed, running = threading.Event(), threading.Semaphore(0)

    def job() -> bool:
        running.release()
        return proceed.wait(60)

    futures = [threads.submit(job) for _ in range(count)]
    for _ in range(min(count, LIMIT)):
        assert running.acquire(timeout=60)
    return proceed, futures


def test_arguments_are_passed_and_the_result_returned(threads: HandlerThreads) -> None:
    """Arguments are passed by position and by name, and the result is returned."""
    assert threads.submit(divmod, 17, 5).result(60) == (3, 2)
    assert threads.submit(sorted, [1, 3, 2], reverse=True).result(60) == [3, 2, 1]


@pytest.mark.parametrize("error", [ValueError("no luck"), SystemExit(3), KeyboardInterrupt()])
def test_error_of_a_function_is_set_on_the_future(threads: HandlerThreads, error: BaseException) -> None:
    """Any exception of a function goes to its future, and the thread continues."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        threads.submit(fail).result(60)
    assert caught.value is error
    assert threads.submit(int, "5").result(60) == 5
    assert len(handlers()) == 1


def test_threads_do_not_keep_the_interpreter_alive(threads: HandlerThreads) -> None:
    """They are daemons, and named."""
    thread = threads.submit(threading.current_thread).result(60)
    assert (thread.daemon, thread.name) == (True, "lightbus-handler")


def test_no_thread_before_the_first_job(threads: HandlerThreads) -> None:
    """Creating the executor starts none; jobs one after another share one."""
    assert handlers() == []
    for _ in range(20):
        threads.submit(int).result(60)
    assert len(handlers()) == 1


def test_as_many_threads_as_needed(threads: HandlerThreads) -> None:
    """Jobs at the same time have a thread each, up to the limit; further jobs wait, and are run in order."""
    proceed, futures = occupy(threads, LIMIT)
    assert len(handlers()) == LIMIT
    done: list[int] = []
    waiting = [threads.submit(done.append, number) for number in range(10)]
    assert len(handlers()) == LIMIT
    assert not any(future.running() or future.done() for future in waiting)
    proceed.set()
    wait(futures, 5)
    wait(waiting, 5)
    assert sorted(done) == list(range(10))
    assert len(handlers()) == LIMIT


def test_a_burst_is_run_by_one_thread(threads: HandlerThreads) -> None:
    """A thread that has finished a short job takes the next one, even if others were woken for it."""
    proceed, futures = occupy(threads, LIMIT)
    proceed.set()
    wait(futures, 60)
    wait_until(lambda: len(threads._idle) == LIMIT)
    done_by: list[int] = []
    usual = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody is interrupted: what follows does not depend on how busy the machine is
    try:
        for _ in range(LIMIT):
            threads.run(lambda _: done_by.append(threading.get_ident()), None)
        assert len(threads._idle) == LIMIT - 1
        wait_until(lambda: len(done_by) == LIMIT)
    finally:
        sys.setswitchinterval(usual)
    assert len(set(done_by)) == 1


def test_a_job_may_wait_for_another(threads: HandlerThreads) -> None:
    """Below the limit, a job that waits for one it submitted itself does not hang."""

    def outer() -> int:
        return threads.submit(lambda: threads.submit(int, "5").result(60)).result(60)

    assert threads.submit(outer).result(60) == 5
    assert len(handlers()) == LIMIT


def test_a_cancelled_job_does_not_run(threads: HandlerThreads) -> None:
    """A job that was cancelled while queued is skipped, and takes no thread from others."""
    proceed, futures = occupy(threads, LIMIT)
    done: list[int] = []
    dropped, kept = threads.submit(done.append, 1), threads.submit(done.append, 2)
    assert dropped.cancel()
    proceed.set()
    wait(futures, 5)
    kept.result(60)
    assert done == [2]


def test_arguments_are_released(threads: HandlerThreads) -> None:
    """An idle thread does not keep the last caller's objects alive."""

    class Large:
        pass

    large = Large()
    seen = weakref.ref(large)
    threads.submit(id, large).result(60)
    del large

    def is_gone() -> bool:
        gc.collect()
        return seen() is None

    wait_until(is_gone)


def test_a_job_that_comes_while_the_last_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a new thread, and does not wait for one that has ended."""
    monkeypatch.setattr(threads_module, "KEPT", 0.01)
    threads = HandlerThreads(1)
    may_end, late = HandlerThreads._end_if_idle, []

    def ends(self: HandlerThreads, thread: Any) -> bool:
        is_ending = may_end(self, thread)
        if is_ending and not late:
            late.append(threads.submit(int, "5"))
        return is_ending

    monkeypatch.setattr(HandlerThreads, "_end_if_idle", ends)
    threads.submit(int).result(60)
    wait_until(lambda: late)
    assert late[0].result(60) == 5
    threads.shutdown()


def test_no_thread_can_be_started(threads: HandlerThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    """Existing threads run the jobs; the first job raises an error, and may be submitted again."""

    def no_room(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", no_room)
        for _ in range(LIMIT + 1):
            with pytest.raises(RuntimeError, match="new thread"):
                threads.submit(int)
    proceed, futures = occupy(threads, 1)
    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", no_room)
        waiting = [threads.submit(int, "5") for _ in range(LIMIT + 1)]
    proceed.set()
    assert [future.result(60) for future in waiting] == [5] * (LIMIT + 1)
    assert futures[0].result(60)


def test_shutdown_cancels_queued_and_finishes_running_jobs(threads: HandlerThreads) -> None:
    """The call does not wait, and the threads end."""
    proceed, futures = occupy(threads, LIMIT)
    waiting = threads.submit(int)
    threads.shutdown(wait=True)
    with pytest.raises(CancelledError):
        waiting.result(60)
    assert not any(future.done() for future in futures)
    proceed.set()
    assert [future.result(60) for future in futures] == [True] * LIMIT
    wait_until(lambda: handlers() == [])


def test_no_job_is_accepted_after_shutdown(threads: HandlerThreads) -> None:
    """No job is accepted any more, and a second shutdown changes nothing."""
    threads.submit(int).result(60)
    threads.shutdown()
    threads.shutdown()
    with pytest.raises(RuntimeError, match="was closed"):
        threads.submit(int)
    wait_until(lambda: handlers() == [])
