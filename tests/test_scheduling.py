"""What runs by the clock: the arithmetic of beats, and timetables that do not drift."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import re
import time
from collections.abc import Callable
from itertools import islice
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
import schedule
from hypothesis import given
from hypothesis import strategies as st

from lightbus import InvalidSchedule, create, scheduling
from lightbus.scheduling import Timetable, every, every_in_turn, next_beat, scheduled

MOMENTS = st.floats(0, 1e6)


@given(MOMENTS, MOMENTS, st.floats(0.001, 1e5))
def test_next_beat_is_a_whole_number_of_intervals_away(started: float, passed: float, interval: float) -> None:
    """The next beat is in the future, at most an interval away, and on the grid that the start laid."""
    now = started + passed
    beat = next_beat(started, now, interval)
    assert now < beat + 1e-6
    assert beat - now <= interval + 1e-6
    intervals = (beat - started) / interval
    assert abs(intervals - round(intervals)) < 1e-3


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_interval_must_be_positive(seconds: float) -> None:
    """No interval is no timetable."""
    with pytest.raises(InvalidSchedule, match="needs a positive interval"):
        every(print, seconds=seconds, also_run_immediately=False)


def _needs_one(value: int) -> None: ...


def _yields() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (5, "runs a function, and 5 is none"),
        (_yields, "calls _yields, which has a `yield` in it, so that calling it runs nothing of it"),
        (_needs_one, "calls _needs_one without arguments, and it needs some: missing a required argument: 'value'"),
    ],
)
def test_what_would_fail_at_each_run_is_refused_where_it_is_written(function: Any, message: str) -> None:
    """What cannot be called without arguments has no timetable; what gets them from a decorator or partial has."""

    @functools.wraps(_needs_one)
    def gives() -> None:
        _needs_one(1)

    job = schedule.Scheduler().every(2).seconds
    with pytest.raises(InvalidSchedule, match=message):
        every(function, seconds=1, also_run_immediately=False)
    with pytest.raises(InvalidSchedule, match=message):
        scheduled(function, job, also_run_immediately=False)
    for fine in (gives, functools.partial(_needs_one, 1), lambda *args, **kwargs: None, print, dict, tuple):
        every(fine, seconds=1, also_run_immediately=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "was given nothing"),
        ({"seconds": -1}, "an interval above 0 that ends, as every(minutes=5), and was given seconds=-1."),
        ({"seconds": float("nan")}, "was given seconds=nan"),
        ({"minutes": "5"}, "every(minutes='5') is not an interval: give a number, as every(minutes=5)"),
        ({"weeks": float("inf")}, "was given weeks=inf"),
        ({"hours": None}, "every(hours=None) is not an interval"),
    ],
)
def test_interval_is_of_numbers(given: dict[str, Any], message: str) -> None:
    """An invalid interval is refused with the given value, in any unit."""
    with pytest.raises(InvalidSchedule, match=re.escape(message)):
        create(service_name="timely").client.every(**given)


def test_every_does_not_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a run takes is not added to the interval; a run that takes longer than it skips beats."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    waits = every(print, seconds=10, also_run_immediately=False).waits()
    runs = []
    for took in (0.0, 3.0, 9.5, 25.0, 1.0):
        clock[0] += next(waits)
        runs.append(clock[0])
        clock[0] += took
    assert runs == [110, 120, 130, 140, 170]


def test_job_of_the_schedule_library() -> None:
    """The job's own times are used, and each run is counted when it is due, so that a long run causes no drift."""
    job = schedule.Scheduler().every(2).seconds
    timetable = scheduled(print, job, also_run_immediately=False)
    waits = timetable.waits()
    first = next(waits)
    assert 1.5 < first <= 2
    assert job.next_run is not None
    planned = job.next_run
    timetable.at_due()
    next(waits)
    assert job.last_run is not None
    assert job.next_run is not None
    assert job.next_run >= planned


def test_next_run_is_planned_before_a_run() -> None:
    """A long run does not delay the next one: the next one is planned before the function runs."""
    job = schedule.Scheduler().every(1).seconds
    planned: list[dt.datetime | None] = []

    async def run(function: Callable[..., Any]) -> None:
        planned.append(job.last_run)
        raise asyncio.CancelledError

    async def main() -> None:
        task = asyncio.create_task(scheduled(print, job, also_run_immediately=False).follow(run))
        while not planned:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert planned[0] is not None


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"milliseconds": 250}, 0.25),
        ({"microseconds": 1000}, 0.001),
        ({"weeks": 2, "days": 1, "hours": 1, "minutes": 1, "seconds": 1}, 1299661),
    ],
)
def test_interval_has_the_units_of_timedelta(given: dict[str, Any], seconds: float) -> None:
    """Every keyword of timedelta is one of every()."""
    bus = create(service_name="timely")
    bus.client.every(**given)(print)
    assert next(bus.client.timetables[0].waits()) == pytest.approx(seconds, rel=0.01)


def test_job_at_a_time_of_day() -> None:
    """`every().day.at("07:00")` means the wall clock."""
    at = (dt.datetime.now() + dt.timedelta(minutes=5)).strftime("%H:%M")
    waits = scheduled(print, schedule.Scheduler().every().day.at(at), also_run_immediately=False).waits()
    assert 4 * 60 - 1 < next(waits) <= 5 * 60


def test_job_that_ends() -> None:
    """`until()` ends the timetable."""
    hourly = schedule.Scheduler().every(1).hours
    assert len([*islice(scheduled(print, hourly.until(dt.timedelta(hours=2)), also_run_immediately=False).waits(), 3)])
    assert not [*scheduled(print, hourly.until(dt.timedelta(minutes=1)), also_run_immediately=False).waits()]


def test_invalid_job() -> None:
    """Anything else is refused with an example."""
    with pytest.raises(InvalidSchedule, match=r"as schedule\.every\(\)\.day\.at\('07:00'\), not 5"):
        scheduled(print, 5, also_run_immediately=False)  # type: ignore[arg-type]


def _follow(timetable: Timetable) -> int:
    """Follow a timetable to its end; return how often its function was run."""
    runs: list[Any] = []

    async def run(function: Callable[..., Any]) -> None:
        runs.append(function)
        if len(runs) == 2:
            raise ValueError("the second time")

    asyncio.run(timetable.follow(run))
    return len(runs)


@pytest.mark.parametrize(("immediately", "runs"), [(False, 3), (True, 4)])
def test_following_a_timetable(immediately: bool, runs: int) -> None:
    """The function runs after each wait, and at once if asked for; an exception does not end the schedule."""
    timetable = Timetable(function=print, waits=lambda: iter([0.0, 0.001, 0.0]), also_run_immediately=immediately)
    assert _follow(timetable) == runs


class Host:
    """A host that sleeps, or whose clock is set: it shows a later time, or an earlier one, after a number of naps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, step: float) -> None:
        self.clock, self.slept = 1_000_000_000.0, 0.0
        self._naps, self._step = iter([0.0] * (after - 1) + [step]), step
        monkeypatch.setattr(scheduling, "asyncio", SimpleNamespace(sleep=self.sleep))
        monkeypatch.setattr(scheduling, "time", SimpleNamespace(time=lambda: self.clock, monotonic=time.monotonic))
        now = SimpleNamespace(now=lambda zone: dt.datetime.fromtimestamp(self.clock, zone))
        monkeypatch.setattr(scheduling, "dt", SimpleNamespace(datetime=now))

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.clock += seconds + next(self._naps, 0.0)


STEPS = [(0, 7200), (3600, 3600), (7200, 120), (-1800, 7200 + 1800)]
"""By how much a clock is set during two hours, and how long the wait is then."""


@pytest.mark.parametrize(("step", "slept"), STEPS)
def test_job_at_a_time_of_day_follows_the_clock(monkeypatch: pytest.MonkeyPatch, step: float, slept: float) -> None:
    """It runs when the clock says so, and at once if it is past then."""
    host = Host(monkeypatch, 2, step)
    job: Any = SimpleNamespace(do=lambda function: None, cancel_after=None)
    job.next_run = dt.datetime.fromtimestamp(host.clock + 7200)
    job.run = lambda: setattr(job, "next_run", None)
    assert _follow(scheduled(print, job, also_run_immediately=False)) == 1
    assert host.slept == pytest.approx(slept)


@pytest.mark.parametrize(("step", "slept", "beats"), [(*each, 1) for each in STEPS] + [(-86_400, 7200, -11)])
def test_beats_follow_the_clock(monkeypatch: pytest.MonkeyPatch, step: float, slept: float, beats: int) -> None:
    """Also if it is set back by several beats: then the next one is that of the clock as it is now."""
    host = Host(monkeypatch, 2, step)
    host.clock = 7200.0 * 138_889
    election: Any = ScheduleElection()
    election.is_our_turn = election.run = run = AsyncMock(side_effect=[asyncio.CancelledError])

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(every_in_turn(print, seconds=7200, also_run_immediately=False).follow(run, election))
    [_, beat, _] = run.await_args.args
    assert beat == 138_889 + beats
    assert host.slept == pytest.approx(slept)


class ScheduleElection:
    """Says whose turn it is: ours, at every second beat."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.ran: list[int] = []

    async def join(self, name: str) -> None: ...

    def elects_us(self, name: str) -> bool:
        return True

    async def is_our_turn(self, name: str, beat: int, interval: float) -> bool:
        self.asked.append(beat)
        return beat % 2 == 0

    async def run(self, name: str, beat: int, function: Callable[[], Any], now: Callable[[], int]) -> None:
        await function()
        self.ran.append(beat)


@pytest.mark.parametrize("immediately", [False, True])
def test_elected_runs_only_at_our_beats(immediately: bool) -> None:
    """Beats are whole multiples of the interval since 1970, each is asked for once, and a failure ends nothing."""
    election: Any = ScheduleElection()
    timetable = every_in_turn(print, seconds=0.02, also_run_immediately=immediately)

    async def run(function: Callable[..., Any]) -> None:
        raise ValueError("as it should")

    async def main() -> None:
        began = int(time.time() // 0.02)
        task = asyncio.create_task(timetable.follow(run, election))
        while len(election.ran) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert election.asked[0] > began
        assert election.asked[-1] <= time.time() / 0.02 + 1

    asyncio.run(main())
    assert len({*election.asked}) == len(election.asked)
    ours = [beat for beat in election.asked if beat % 2 == 0]
    assert election.ran[immediately:] == ours[: len(election.ran) - immediately]


def test_names_of_elected_schedules_can_be_announced() -> None:
    """They consist of function and interval; a hash replaces a name that cannot be announced."""
    name = every_in_turn(_yields_nothing, seconds=300, also_run_immediately=False).name
    assert name == f"{__name__}._yields_nothing/300"

    def long() -> None: ...

    long.__qualname__ = "x" * 200
    assert len(every_in_turn(long, seconds=300, also_run_immediately=False).name) == 16
    with pytest.raises(InvalidSchedule, match="every\\(\\) runs a function"):
        every_in_turn(3, seconds=1, also_run_immediately=False)  # type: ignore[arg-type]


def _yields_nothing() -> None: ...
