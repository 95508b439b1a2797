"""Which calls start, wait or are refused: a worker's calls, simulated with a clock."""

from __future__ import annotations

import heapq

import pytest

from lightbus.core.admission import FIRST_LIMIT, KNOWN_AFTER, PROBE_AFTER, SHORT_WAIT, Admission


def known(seconds: float, concurrency: int = 100, max_queue_time: float | None = None) -> Admission:
    """Return one that knows how long calls take."""
    admission = Admission(concurrency, max_queue_time)
    for _ in range(20):
        admission.finished(seconds, 0.0)
    return admission


def test_concurrency_grows_while_handlers_wait() -> None:
    """Handlers that wait soon run as many at a time as allowed, and no more."""
    admission = Admission(10)
    assert admission.limit == FIRST_LIMIT
    outcome = [admission.began(0.0001, admission.limit, 1.0) for _ in range(10)]
    assert outcome == [True] * 6 + [False] * 4
    assert admission.limit == 10


def test_sequential_calls_do_not_raise_the_limit() -> None:
    """However many succeed: they do not show how many can run concurrently."""
    admission = Admission(100)
    assert not any(admission.began(0.0001, running, 1.0) for running in range(1, FIRST_LIMIT) for _ in range(1000))
    assert admission.limit == FIRST_LIMIT


def test_computing_handlers_run_one_by_one() -> None:
    """A long delay of a handler's turn shows that too many run; each round of calls counts once."""
    admission = known(0.01)
    admission.limit = 16
    assert not admission.began(0.02, 16, 1.02)
    assert admission.limit == 8
    admission.began(0.03, 16, 1.03)  # this call started before the reduction
    assert admission.limit == 8
    for number in range(1, 4):
        admission.began(0.02, 16, 1.02 + number)
    assert admission.limit == 1
    assert not admission.began(0.0, 1, 4.03), "what was found out is not forgotten at once"
    assert admission.began(0.0, 1, 5.0)
    assert admission.limit == 2


def computing(share: float, process: float, *, concurrency: int = 100) -> Admission:
    """Return an Admission whose calls, and process, have computed for these shares of a second."""
    admission = known(0.01, concurrency)
    admission.limit = 16
    admission.look_at_cpu(5.0, 1.0)
    for _ in range(99):
        admission.finished(0.01, 1.01, share / 100)
    assert admission.finished(0.01, 1.5, share / 100)
    admission.look_at_cpu(5.0 + process, 2.0)
    return admission


def test_computing_threads_lower_the_limit() -> None:
    """Computing handlers in threads start at once, and compete for the processor, with each other and with the loop."""
    admission = computing(0.7, 1.0)
    assert admission.limit == 8
    assert not admission.began(0.0, 8, 2.01), "more of them would not do more"
    assert not admission.probe(2.03)
    assert admission.limit == 8


def test_old_processor_measurement_expires() -> None:
    """If no call ends any more, there is no new measurement, and more calls are tried."""
    admission = computing(0.7, 1.0)
    assert admission.probe(3.0)
    assert admission.limit > 8


@pytest.mark.parametrize(
    ("share", "process"),
    [pytest.param(0.1, 1.0, id="others compute"), pytest.param(0.7, 0.8, id="there is more to be had")],
)
def test_busy_process_alone_does_not_lower_the_limit(share: float, process: float) -> None:
    """Calls that wait are not delayed because a listener computes."""
    admission = computing(share, process)
    assert admission.limit == 16
    assert admission.probe(2.1)


def test_waiting_calls_start_though_none_ends() -> None:
    """Without measurements for a while, more calls are tried."""
    admission = Admission(100)
    admission.probe(1.0)
    before = admission.limit
    assert not admission.probe(1.0 + PROBE_AFTER / 2)
    assert admission.probe(1.0 + 2 * PROBE_AFTER)
    assert before < admission.limit <= 100


def test_a_burst_may_wait() -> None:
    """Calls that take seconds in all are executed if no further ones arrive."""
    admission = known(0.1, concurrency=4)
    for ahead in range(500):
        admission.arrived(10.0)
        admission.queue_is(ahead, 10.0)
        assert admission.may_wait(ahead, 60.0, 10.0)
    assert not admission.has_waited_too_long(5.0, 15.0)


def played(admission: Admission, seconds: float, arrivals: list[float], *, again_until: float = 0.0) -> tuple[int, int]:
    """Simulate calls, concurrently up to the limit, each caller calling again; return the served and the refused."""
    coming = [(at, "comes", 0.0) for at in arrivals]
    waiting: list[float] = []
    served = refused = running = 0
    while coming:
        now, what, began = heapq.heappop(coming)
        if what == "comes":
            admission.arrived(now)
            if not admission.may_wait(len(waiting), 60.0, now):
                refused += 1
                continue
            waiting.append(now)
        else:
            running, served = running - 1, served + 1
            admission.finished(now - began, now)
            if now < again_until:
                heapq.heappush(coming, (now + seconds / 100, "comes", 0.0))
        while waiting and running < admission.limit:
            if admission.has_waited_too_long(now - waiting.pop(0), now):
                refused += 1
            else:
                running += 1
                heapq.heappush(coming, (now + seconds, "ends", now))
        admission.queue_is(len(waiting), now)
    return served, refused


@pytest.mark.parametrize("limit", [1, 4, 32])
@pytest.mark.parametrize("seconds", [0.0005, 0.003, 0.01, 0.05])
def test_burst_is_executed(seconds: float, limit: int) -> None:
    """Also right after more arrived than ended; and again, each time it comes."""
    admission = known(seconds)
    admission.limit = limit
    for began in (1.0, 100.0):
        assert played(admission, seconds, [began + call / 10_000 for call in range(200)]) == (200, 0)


@pytest.mark.parametrize("limit", [1, 4, 32])
@pytest.mark.parametrize("seconds", [0.003, 0.01, 0.05])
def test_callers_that_await_answers_are_no_overload(seconds: float, limit: int) -> None:
    """Each calls again after its answer, so no more calls arrive than end."""
    admission = known(seconds)
    admission.limit = limit
    served, refused = played(admission, seconds, [1.0 + caller / 10_000 for caller in range(40)], again_until=2.0)
    assert refused == 0
    assert served > 0.9 * min(limit, 40) / seconds * 0.9


def test_a_single_call_after_an_overload_is_not_refused() -> None:
    """After a quiet time the overload is over."""
    admission = known(0.1, concurrency=1)
    admission.limit = 1
    overload(admission, 0.1)
    admission.queue_is(0, 5.0)
    admission.arrived(20.0)
    assert admission.may_wait(0, 60.0, 20.0)


def overload(admission: Admission, seconds: float, *, until: float = 5.0) -> tuple[list[float], int]:
    """Simulate five times the load; return the waiting times of started calls, and the refused ones."""
    waits: list[float] = []
    waiting: list[float] = []
    refused, now, ends = 0, 1.0, 0.0
    while now < until:
        admission.arrived(now)
        if (ends <= now and not waiting) or admission.may_wait(len(waiting), 5.0, now):
            waiting.append(now)
        else:
            refused += 1
        while waiting and ends <= now:
            since = waiting.pop(0)
            if admission.has_waited_too_long(now - since, now):
                refused += 1
                continue
            waits.append(now - since)
            ends = now + seconds
            admission.finished(seconds, now)
        admission.queue_is(len(waiting), now)
        now += seconds / 5
    return waits, refused


@pytest.mark.parametrize("seconds", [0.01, 0.1])
def test_accepted_calls_are_fast_under_five_times_the_load(seconds: float) -> None:
    """Calls that would wait are refused; accepted ones are nearly as fast as without load."""
    admission = known(seconds, concurrency=1)
    admission.limit = 1
    waits, refused = overload(admission, seconds)
    assert max(waits[len(waits) // 2 :]) <= seconds
    assert sum(wait > seconds for wait in waits) < 0.2 * len(waits), "those of the first moment"
    assert len(waits) > 0.8 * 4.0 / seconds, "and the worker has always something to do"
    assert refused > 3 * len(waits)


def test_no_call_is_refused_after_an_overload() -> None:
    """A second later a burst may wait again."""
    admission = known(0.01, concurrency=1)
    admission.limit = 1
    overload(admission, 0.01)
    admission.queue_is(0, 5.0)
    for tick in range(100):
        admission.arrived(5.0 + tick / 100)
        admission.finished(0.001, 5.0 + tick / 100)
    assert admission.may_wait(3, 5.0, 6.0)


def test_call_that_cannot_start_in_time_is_refused() -> None:
    """Its caller can use the remaining time for another worker."""
    admission = known(0.1, concurrency=1)
    admission.limit = 1
    assert admission.may_wait(5, 1.0, 0.0)
    assert not admission.may_wait(5, 0.5, 0.0)


def test_no_waiting_call_is_refused_before_the_time_of_calls_is_known() -> None:
    """A worker that has just started would take the time of a first, short call for that of all."""
    admission = Admission(2)
    admission.limit = 2
    for _ in range(KNOWN_AFTER - 2):
        admission.finished(0.001, 0.0)
    admission.queue_is(1, 1.0)
    for number in range(25):  # more than end, for longer than a burst
        admission.arrived(1.0 + number / 50)
    admission.finished(0.5, 1.5)
    assert not admission.has_waited_too_long(0.49, 1.5)
    admission.finished(0.5, 1.5)
    assert admission.has_waited_too_long(0.49, 1.5)


def test_max_queue_time_holds_in_a_burst() -> None:
    """The setting applies to all calls; without measurements none is refused by an estimate."""
    admission = known(0.1, concurrency=1, max_queue_time=0.35)
    admission.limit = 1
    assert [admission.may_wait(ahead, 5.0, 0.0) for ahead in range(5)] == [True, True, True, False, False]
    assert admission.has_waited_too_long(0.4, 0.0)
    assert Admission(1, 0.35).may_wait(100, 5.0, 0.0)


def test_short_calls_may_always_wait_briefly() -> None:
    """A call of a fraction of a millisecond is not refused for waiting three times that."""
    assert known(0.0001).longest_wait == SHORT_WAIT
    assert known(0.1).longest_wait == pytest.approx(0.05)
