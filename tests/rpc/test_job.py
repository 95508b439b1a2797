"""One call that a worker has accepted."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from helpers.jobs import CALLER, ME, frame_of, job_of
from lightbus.rpc.job import MAX_DECODED_BYTES, Job
from lightbus.service.execution import Execution


def test_the_initial_state_of_a_call() -> None:
    """Its name and deadline are known, and it has no result yet."""
    job = job_of(left=5.0, chain=["x"])
    assert (job.name, job.call_id, job.request.caller) == ("work.echo", 1, CALLER)
    assert 4.0 < job.deadline.left() <= 5.0
    assert job.served.outer == ("x",)
    assert (job.cancelled, job.has_place, job.failed, job.in_user_code, job.nested) == (False, False, False, False, 0)
    assert (job.task, job.execution, job.parent, job.queued_frame, job.arguments) == (None, None, None, b"", None)


@pytest.mark.parametrize(("api", "internal"), [("internal.peer", True), ("internal", False), ("work", False)])
def test_internal_calls_are_recognised(api: str, internal: bool) -> None:
    """They have their own APIs."""
    assert job_of(api=api).callee.is_internal is internal


def test_a_mark_is_made_when_it_is_needed() -> None:
    """Most calls make no further calls. Only a nested call back into this process knows the mark of its outer call."""
    marks: dict[str, Job] = {}
    one, other = job_of(marks=marks, chain=["x"]), job_of(marks=marks)
    assert marks == {}
    assert one.mark == ""
    assert one.served.chain == ("x", one.mark)
    assert marks == {one.mark: one}
    assert one.served.chain == ("x", one.mark)  # the same one from now on
    assert other.served.chain == (other.mark,)
    assert len({one.mark, other.mark}) == 2
    assert one.mark.startswith(f"{ME}:")
    assert len(one.mark) <= 64  # what a chain may hold


def test_threads_at_the_same_time_get_one_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second mark would remain after the end of the call, and would be accepted for ever."""
    both, marks = threading.Barrier(2), dict[str, Job]()
    job = job_of(marks=marks)

    def random(size: int) -> bytes:
        both.wait(60)
        return str(threading.get_ident()).encode()[-size:]

    monkeypatch.setattr(os, "urandom", random)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: job.served.chain, range(2))
    assert one == other == (job.mark,)
    assert marks == {job.mark: job}


def test_a_mark_that_is_made_while_its_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a task that a handler left running requests the mark just as the call is answered, it matches no call."""
    marks: dict[str, Job] = {}
    job = job_of(marks=marks)
    monkeypatch.setattr(os, "urandom", lambda size: job.served.end() or b"x" * size)
    assert len(job.served.chain) == 1
    assert marks == {}


@pytest.mark.parametrize("size", [10, MAX_DECODED_BYTES])
def test_a_queued_call_keeps_only_its_frame(size: int) -> None:
    """A large call keeps its encoded frame, without the decoded arguments; when it starts, they are decoded again."""
    value = "x" * size
    job = job_of(kwargs={"value": value})
    frame, request = frame_of(job), job.request
    job.keep_encoded(frame)
    assert job.queued_frame == frame
    assert job.request.kwargs == ({"value": value} if len(frame) <= MAX_DECODED_BYTES else {})
    assert job.request[:-1] == request[:-1]
    job.decode_again()
    assert (job.request, job.queued_frame) == (request, b"")


class Interrupted:
    """A task, or an execution, that records whether it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        """Record the cancellation."""
        self.cancelled = True


def test_interrupting_a_task_first() -> None:
    """A coroutine is cancelled where it awaits; code in a thread is told by its execution."""
    job = job_of()
    job.interrupt()  # not begun: nothing
    task, execution = Interrupted(), Interrupted()
    job.execution = cast(Execution, execution)
    job.interrupt()
    assert execution.cancelled
    execution.cancelled = False
    job.task = cast("asyncio.Task[Any]", task)
    job.interrupt()
    assert (task.cancelled, execution.cancelled) == (True, False)
