"""Work that a worker does on a schedule: `every` and `schedule`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from .engine.schedule_election import ScheduleElection
from .exceptions import InvalidSchedule
from .service.execution import check_ran, is_cancelled, is_generator, name_of
from .service.failures import report

__all__ = ["InTurn", "Timetable", "every", "every_in_turn", "next_beat", "scheduled"]

logger = logging.getLogger("lightbus.scheduling")

_LONGEST_NAME = 128

LOOK_EVERY = 60.0
"""
Seconds after which a wait for a time of day looks at the clock again. Timers do not follow it: a host may sleep, or its
clock be set, as after a start without a network.
"""

RunUser = Callable[[Callable[..., Any]], Awaitable[Any]]


class ScheduleJob(Protocol):
    """The part of a job of the `schedule` library that is used here."""

    next_run: dt.datetime | None
    cancel_after: dt.datetime | None

    def do(self, function: Callable[..., Any]) -> Any:
        """Plan the first run."""

    def run(self) -> Any:
        """Count a run, and plan the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timetable:
    """
    One function and when it runs.

    Attributes:
        function: `def` or `async def`, without arguments.
        waits: yields the seconds to wait before each run.
        also_run_immediately: whether it runs once at the start, too.
        at_due: called before each run that is due, so that the duration of the run does not delay the next one.
        left: returns the seconds that are left of the present wait; None if it does not depend on the time of day.

    """

    function: Callable[..., Any]
    waits: Callable[[], Iterator[float]]
    also_run_immediately: bool
    at_due: Callable[[], Any] = lambda: None
    left: Callable[[], float] | None = None

    async def follow(self, run: RunUser) -> None:
        """Run the function on schedule until cancelled. Its errors are logged, and the schedule continues."""
        if self.also_run_immediately:
            await self._run(run)
        for wait in self.waits():
            while wait > LOOK_EVERY and self.left is not None:
                await asyncio.sleep(LOOK_EVERY)
                wait = self.left()
            await asyncio.sleep(wait)
            self.at_due()
            await self._run(run)

    async def _run(self, run: RunUser) -> None:
        await _run(self.function, run)


@dataclass(frozen=True, slots=True, kw_only=True)
class InTurn:
    """
    One function that one worker of the service runs at each beat.

    The beats are the whole multiples of the interval since 1970: the same for all workers, whenever they were started.

    Attributes:
        function: `def` or `async def`, without arguments.
        interval: seconds.
        also_run_immediately: whether it runs at the start, too, if this worker is elected then.
        name: identifies the schedule among the workers.

    """

    function: Callable[..., Any]
    interval: float
    also_run_immediately: bool
    name: str

    async def follow(self, run: RunUser, election: ScheduleElection) -> None:
        """Run the function at the beats for which this worker is elected, until cancelled."""
        await election.join(self.name)
        last = self._beat_now()
        if self.also_run_immediately and election.elects_us(self.name):
            await election.run(self.name, last, lambda: _run(self.function, run), self._beat_now)
        while True:
            beat = last = await self._next_beat(last)
            if await election.is_our_turn(self.name, beat, self.interval):
                await election.run(self.name, beat, lambda: _run(self.function, run), self._beat_now)

    async def _next_beat(self, last: int) -> int:
        """Return the next beat when it is due."""
        beat = self._beat_now() + 1
        if beat == last:  # a timer may fire slightly early
            beat += 1
        while (left := beat * self.interval - time.time()) > LOOK_EVERY:
            await asyncio.sleep(LOOK_EVERY)
            if beat > self._beat_now() + 2:  # the clock was set back
                beat = self._beat_now() + 1
        await asyncio.sleep(max(0.0, left))
        return beat

    def _beat_now(self) -> int:
        return int(time.time() // self.interval)


async def _run(function: Callable[..., Any], run: RunUser) -> None:
    try:
        check_ran(function, await run(function))
    except BaseException as error:
        if is_cancelled():
            raise  # this task is being cancelled
        text = "The scheduled function %s failed; it runs again at its next time"
        report(logger, logging.ERROR, error, text, name_of(function))


def next_beat(started: float, now: float, interval: float) -> float:
    """Return the next moment after `now` that is a whole number of intervals after `started`, to avoid drift."""
    return started + (int((now - started) // interval) + 1) * interval


def every(function: Callable[..., Any], *, seconds: float, also_run_immediately: bool) -> Timetable:
    """Return the timetable of a fixed interval. Raises InvalidSchedule for an interval that is not positive."""
    if not seconds > 0:
        raise InvalidSchedule(f"every() of {function} needs a positive interval, not {seconds} s.")
    _check_callable(function, "every()")

    def waits() -> Iterator[float]:
        started = time.monotonic()
        while True:
            now = time.monotonic()
            yield next_beat(started, now, seconds) - now

    return Timetable(function=function, waits=waits, also_run_immediately=also_run_immediately)


def every_in_turn(function: Callable[..., Any], *, seconds: float, also_run_immediately: bool) -> InTurn:
    """Return the timetable of a fixed interval where one worker runs each beat. Raises InvalidSchedule."""
    _check_callable(function, "every()")
    name = f"{getattr(function, '__module__', '')}.{name_of(function)}/{seconds:g}"
    if len(name.encode()) > _LONGEST_NAME or not name.isprintable() or not {" ", ","}.isdisjoint(name):
        name = hashlib.blake2b(name.encode(errors="replace"), digest_size=8).hexdigest()
    return InTurn(function=function, interval=seconds, also_run_immediately=also_run_immediately, name=name)


def scheduled(function: Callable[..., Any], job: ScheduleJob, *, also_run_immediately: bool) -> Timetable:
    """Return the timetable of a job of the `schedule` library: `schedule.every().day.at("07:00")`."""
    if not hasattr(job, "do") or not hasattr(job, "next_run"):
        raise InvalidSchedule(
            f"schedule() of {function} needs a job of the schedule library, as schedule.every().day.at('07:00'), "
            f"not {job!r}."
        )
    _check_callable(function, "schedule()")

    def left() -> float:
        due = job.next_run
        return 0.0 if due is None else max(0.0, (due - dt.datetime.now(due.tzinfo)).total_seconds())

    def waits() -> Iterator[float]:
        job.do(lambda: None)
        while job.next_run is not None and (job.cancel_after is None or job.next_run <= job.cancel_after):
            yield left()

    return Timetable(
        function=function, waits=waits, also_run_immediately=also_run_immediately, at_due=job.run, left=left
    )


def _check_callable(function: Any, by: str) -> None:
    """Raise InvalidSchedule for an object that cannot be called without arguments: it would fail each time."""
    if not callable(function):
        raise InvalidSchedule(f"{by} runs a function, and {function!r:.100} is none. Use it as a decorator of one.")
    if is_generator(function):
        raise InvalidSchedule(
            f"{by} calls {name_of(function)}, which has a `yield` in it, so that calling it runs nothing of it. "
            "Write it as a plain function."
        )
    with contextlib.suppress(ValueError):  # a builtin without a signature
        try:
            # Check the outer function, which is the one called: a decorator may pass arguments to the inner one.
            inspect.signature(function, follow_wrapped=False).bind()
        except TypeError as error:
            raise InvalidSchedule(
                f"{by} calls {name_of(function)} without arguments, and it needs some: {error}. "
                "Give them defaults, or use functools.partial."
            ) from None
