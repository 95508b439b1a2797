"""Places for calls: which calls start, wait, or are refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.jobs import frame_of, job_of
from lightbus.config import Config
from lightbus.rpc import places as module
from lightbus.rpc.job import Job
from lightbus.rpc.places import MAX_INTERNAL, MAX_NESTED, CallPlaces


class Bench:
    """Places whose calls are started and ended by the test."""

    def __init__(self, **worker: Any) -> None:
        self.started: list[Job] = []
        self.dropped: list[tuple[Job, str]] = []
        self.counts: Counter[str] = Counter()
        config = Config(worker={"rpc_concurrency": 1, "rpc_queue": 2, **worker})
        self.places = CallPlaces(
            config,
            asyncio.get_running_loop(),
            self.counts,
            self.started.append,
            lambda job, reason: self.dropped.append((job, reason)),
        )

    def come(self, job: Job | None = None, **fields: Any) -> tuple[Job, str]:
        """Let a call arrive; return it, and the reason if it is refused."""
        job = job or job_of(marks=self.places.marks, **fields)
        return job, self.places.admit(job, frame_of(job))

    def go(self, job: Job) -> None:
        """Finish a call."""
        self.places.release(job)


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Turn a coroutine into a test."""

    def run() -> None:
        asyncio.run(test())

    run.__doc__, run.__name__ = test.__doc__, test.__name__
    return run


@on_loop
async def test_one_call_starts_and_others_wait() -> None:
    """They start in the order of their arrival."""
    bench = Bench()
    calls = [bench.come(call_id=number) for number in range(3)]
    assert [reason for _, reason in calls] == ["", "", ""]
    one, two, three = (job for job, _ in calls)
    assert (bench.started, [*bench.places.waiting], bench.places.running) == ([one], [two, three], 1)
    bench.go(one)
    bench.go(two)
    assert (bench.started, [*bench.places.waiting], bench.places.running) == ([one, two, three], [], 1)
    bench.go(three)
    assert bench.places.running == 0


@on_loop
async def test_a_full_queue_refuses() -> None:
    """The refusal says how many calls run and wait."""
    bench = Bench()
    for _ in range(3):
        bench.come()
    assert bench.come()[1] == "runs 1 calls and has 2 waiting"


@on_loop
async def test_waiting_calls_are_bounded_by_bytes() -> None:
    """The first waiting call may have the size of the largest message; others only fit into the remaining bytes."""
    bench = Bench(rpc_queue=100)
    large = {"value": "x" * 40_000_000}
    bench.come()
    assert bench.come(kwargs=large)[1] == ""
    assert "has 1 calls of 400000" in bench.come(kwargs=large)[1]
    assert bench.come()[1] == ""


@on_loop
async def test_a_cancelled_call_leaves_the_queue() -> None:
    """Its bytes in the queue are free again; removing a call that does not wait changes nothing."""
    bench = Bench()
    one, two, three = (bench.come()[0] for _ in range(3))
    assert bench.places.remove_queued(two)
    assert not bench.places.remove_queued(two)
    assert not bench.places.remove_queued(one)
    assert bench.come()[1] == ""
    bench.go(one)
    assert bench.started == [one, three]


@on_loop
async def test_abandoned_calls_are_not_started() -> None:
    """Calls whose caller has given up, or whose deadline has passed in the queue, are counted and skipped."""
    bench = Bench(rpc_queue=3)
    one, two, three, four = (bench.come(left=left)[0] for left in (5.0, 5.0, 0.0, 5.0))
    two.cancelled = True
    bench.go(one)
    assert bench.started == [one, four]
    assert bench.dropped == [(two, ""), (three, "")]
    assert bench.counts["expired"] == 2


@on_loop
async def test_a_call_that_waits_too_long_is_refused() -> None:
    """After the time in the settings; the error says how long it was."""
    bench = Bench(max_queue_time=0.001)
    one, two = bench.come()[0], bench.come()[0]
    two.arrived -= 10.0
    bench.go(one)
    assert [job for job, _ in bench.dropped] == [two]
    assert bench.dropped[0][1].startswith("did not begin this call within 10.")


@on_loop
async def test_a_call_back_needs_no_place() -> None:
    """A call back from the handler of a running call must not wait for that call's place: it would be a deadlock."""
    bench = Bench(rpc_queue=1)
    outer, _ = bench.come()
    inner, reason = bench.come(chain=["elsewhere", *outer.served.chain])
    assert (reason, bench.started, bench.places.running, outer.nested) == ("", [outer, inner], 1, 1)
    innermost, reason = bench.come(chain=[*outer.served.chain, *inner.served.chain])
    assert (reason, inner.nested, outer.nested) == ("", 1, 1)
    for job in (innermost, inner):
        bench.go(job)
    assert (outer.nested, inner.nested, bench.places.running) == (0, 0, 1)


@on_loop
async def test_an_unknown_mark_has_no_effect() -> None:
    """A call whose chain contains a made-up mark, or that of an ended call, waits like any other."""
    bench = Bench()
    outer, _ = bench.come()
    chain = outer.served.chain
    stranger, _ = bench.come(chain=["a" * 16 + ":0123456789abcdef"])
    assert [*bench.places.waiting] == [stranger]
    bench.go(outer)
    assert bench.places.marks == {}
    late, _ = bench.come(chain=list(chain))
    assert [*bench.places.waiting] == [late]


@on_loop
async def test_calls_back_are_bounded() -> None:
    """One call cannot have an unlimited number of calls back executed."""
    bench = Bench()
    outer, _ = bench.come()
    nested = [bench.come(chain=list(outer.served.chain)) for _ in range(MAX_NESTED + 1)]
    assert [reason for _, reason in nested[:-1]] == [""] * MAX_NESTED
    assert nested[-1][1] == f"executes {MAX_NESTED} nested calls already, which its own calls wait for"
    bench.go(nested[0][0])
    assert bench.come(chain=list(outer.served.chain))[1] == ""


@on_loop
async def test_a_busy_worker_answers_internal_calls() -> None:
    """They are needed most then; they have their own limit."""
    bench = Bench(rpc_queue=1)
    for _ in range(2):
        bench.come()
    asked = [bench.come(api="internal.peer") for _ in range(MAX_INTERNAL + 1)]
    assert [reason for _, reason in asked[:-1]] == [""] * MAX_INTERNAL
    assert asked[-1][1] == f"answers {MAX_INTERNAL} questions about itself"
    bench.go(asked[0][0])
    assert bench.come(api="internal.peer")[1] == ""


@pytest.mark.parametrize("kind", ["plain", "internal", "nested"])
def test_arguments_are_bounded_by_memory(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A call that needs more memory than is left waits, or is refused if it may not; a single call always starts."""
    monkeypatch.setattr(module, "MAX_MEMORY", 100 << 20)

    async def main() -> None:
        bench = Bench(rpc_concurrency=100)
        first, reason = bench.come(memory=500 << 20)
        assert reason == ""
        fields: dict[str, dict[str, Any]] = {
            "plain": {}, "internal": {"api": "internal.peer"}, "nested": {"chain": list(first.served.chain)},
        }  # fmt: skip
        job, reason = bench.come(memory=1, **fields[kind])
        assert reason == ("" if kind == "plain" else "executes calls whose arguments take 500 MiB of memory")
        assert bench.started == [first]
        bench.go(first)
        assert bench.started == ([first, job] if kind == "plain" else [first])

    asyncio.run(main())


@on_loop
async def test_more_calls_run_in_parallel_if_they_start_promptly() -> None:
    """A worker begins with few, and allows more once those get the processor at once."""
    bench = Bench(rpc_concurrency=100, rpc_queue=100)
    jobs = [bench.come()[0] for _ in range(30)]
    first = len(bench.started)
    assert 1 <= first < 30
    for job in jobs[:first]:
        job.began += 100.0  # it did not have to wait for its turn, however slow this machine is
        bench.places.handler_began(job)
    assert len(bench.started) > first


@on_loop
async def test_waiting_calls_are_checked_regularly() -> None:
    """Even if no call starts or ends for a while, more calls are tried."""
    bench = Bench(rpc_concurrency=100, rpc_queue=100)
    for _ in range(30):
        bench.come()
    first = len(bench.started)
    await wait_until_async(lambda: len(bench.started) > first, what="a further call is begun")


@on_loop
async def test_a_late_thread_is_recorded_on_the_loop() -> None:
    """Fewer calls run in parallel afterwards."""
    bench = Bench(rpc_concurrency=100, rpc_queue=100)
    done, job = bench.come()[0], bench.come()[0]
    done.began -= 10.0
    bench.go(done)  # that is how long calls take
    limit = bench.places._admission.limit
    job.began -= 100.0
    await asyncio.to_thread(bench.places.handler_began_in_thread, job)
    await wait_until_async(lambda: bench.places._admission.limit < limit, what="the limit is lowered")


def test_a_late_thread_after_the_end() -> None:
    """The loop is closed, and no call is started any more: nothing is raised."""

    async def main() -> tuple[Bench, Job]:
        bench = Bench()
        return bench, bench.come()[0]

    bench, job = asyncio.run(main())
    job.began -= 5.0
    bench.places.handler_began_in_thread(job)
