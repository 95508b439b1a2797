"""Decides which worker of a service runs a schedule that only one must run (`every(..., once_per_service=True)`).

At each beat all workers wake up. Rendezvous hashing over the workers that are up and have the schedule elects one. That
worker reports its start to the others, repeats the report while it runs, and reports the end. A worker that receives no
report, or learns that the elected one has left, applies the hash again without that one. So each beat is run once while
all workers agree on the set of workers, and at least once in any case.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from ..core.partitions import rendezvous
from ..exceptions import LightbusException
from ..service.api import Api
from ..typing import InstanceId
from .engine import Engine
from .internal_calls import ask

__all__ = ["SCHEDULES_API", "Notify", "ScheduleElection", "SchedulesApi", "election_of", "stats_of"]

logger = logging.getLogger("lightbus.scheduling")

SCHEDULES_API = "internal.schedules"

GRACE = 5.0
"""Seconds within which the elected worker has to report its start: clocks differ, and membership spreads with delay."""

RETELL = 3.0
"""Seconds between two reports that a run has not ended yet."""

Notify = Callable[[InstanceId, str, int, bool], Awaitable[object]]
"""Reports to a worker: a schedule, a beat, and whether that is done or has begun. Raises LightbusException."""


@dataclass(frozen=True, slots=True)
class _RunReport:
    """The latest report of a schedule: the worker, the beat that it began, the last beat done, and when it arrived."""

    by: InstanceId
    began: int
    done: int
    at: float


class ScheduleElection:
    """
    The election for the schedules of one worker. Only touched from the worker's loop.

    Args:
        me: our instance id.
        members: returns the workers of our service that are up and have the schedule of this name.
        notify: reports a run to one of these workers.
        join: discovers these workers, and advertises our schedules to them.

    Attributes:
        counts: by schedule: how often it `ran` here, how often it was `left` to another worker, and how many of the
            runs here were `taken_over` from an elected worker that left or did not report.

    """

    def __init__(
        self,
        me: InstanceId,
        members: Callable[[str], Collection[InstanceId]],
        notify: Notify,
        join: Callable[[], Awaitable[None]],
    ) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._me = me
        self._members = members
        self._notify = notify
        self._join = join
        self._reports: dict[str, _RunReport] = {}
        self._waiting: set[asyncio.Future[None]] = set()
        self._notifications: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> list[str]:
        """The schedules that this worker has."""
        return [*self.counts]

    async def join(self, name: str) -> None:
        """Take part in the election of this schedule; return once this worker and the others know each other."""
        self.counts.setdefault(name, Counter(ran=0, left=0, taken_over=0))
        await self._join()

    def elects_us(self, name: str) -> bool:
        """Return whether this worker is elected now, and no worker runs the schedule."""
        return not self._is_running(name) and self._elected(name, frozenset()) == self._me

    async def is_our_turn(self, name: str, beat: int, interval: float) -> bool:
        """Return whether this worker must run this beat; waits while another elected worker has time to start it."""
        silent: set[InstanceId] = set()
        began = time.monotonic()
        until, grace_ends = began + max(interval, 2 * GRACE), began + GRACE
        first = self._elected(name, silent)
        while not self._is_done(name, beat, interval, began):
            owner = self._elected(name, silent)
            is_running = self._is_running(name)
            if owner == self._me and not is_running:
                self._count(name, beat, taken_over_from=first)
                return True
            now = time.monotonic()
            if now >= until:
                break
            if not is_running and now >= grace_ends and owner is not None:
                silent.add(owner)
                grace_ends = now + GRACE
                continue
            await self._wait_for_change(min(until, max(grace_ends, now + RETELL) if is_running else grace_ends) - now)
        self.counts[name]["left"] += 1
        return False

    async def run(
        self, name: str, beat: int, function: Callable[[], Awaitable[object]], now: Callable[[], int]
    ) -> None:
        """Run a beat, and report it to the others; `now` returns the latest beat that is due at the end of the run."""
        reporting = asyncio.get_running_loop().create_task(self._report_run(name, beat))
        try:
            await function()
        finally:
            reporting.cancel()
        done = max(beat, now())
        self._reports[name] = _RunReport(self._me, done, done, time.monotonic())
        self._notify_members(name, done, is_done=True)

    def on_report(self, by: InstanceId, name: str, beat: int, *, is_done: bool) -> None:
        """Record a report of another worker about a run."""
        if name not in self.counts:
            return
        before = self._reports.get(name)
        done = beat if is_done else before.done if before is not None else beat - 1
        self._reports[name] = _RunReport(by, beat, done, time.monotonic())
        self.wake()

    def wake(self) -> None:
        """Wake waiting schedules: the set of workers has changed."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def stop(self) -> None:
        """Stop reporting to other workers."""
        for task in self._notifications:
            task.cancel()

    def _elected(self, name: str, silent: Collection[InstanceId]) -> InstanceId | None:
        return rendezvous(name, {self._me, *self._members(name)} - {*silent})

    def _is_done(self, name: str, beat: int, interval: float, since: float) -> bool:
        """Whether a beat is known to be done. An old report of a far later beat precedes a clock that was set back."""
        report = self._reports.get(name)
        if report is None or report.done < beat:
            return False
        return report.at >= since or report.done - beat <= 1 + 2 * GRACE / interval

    def _is_running(self, name: str) -> bool:
        report = self._reports.get(name)
        if report is None or report.done >= report.began or report.by == self._me:
            return False
        return report.by in self._members(name) and time.monotonic() - report.at < 3 * RETELL

    def _count(self, name: str, beat: int, *, taken_over_from: InstanceId | None) -> None:
        self.counts[name]["ran"] += 1
        if taken_over_from != self._me:
            self.counts[name]["taken_over"] += 1
            logger.info(
                "The schedule %s is run here this time: %s, which was elected, has left or did not start it",
                name, taken_over_from,
            )  # fmt: skip

    async def _wait_for_change(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait([future], timeout=max(seconds, 0.0))
        finally:
            self._waiting.discard(future)

    async def _report_run(self, name: str, beat: int) -> None:
        while True:
            self._notify_members(name, beat, is_done=False)
            await asyncio.sleep(RETELL)

    def _notify_members(self, name: str, beat: int, *, is_done: bool) -> None:
        for instance in self._members(name):
            if instance != self._me:
                task = asyncio.get_running_loop().create_task(self._notify_member(instance, name, beat, is_done))
                self._notifications.add(task)
                task.add_done_callback(self._notifications.discard)

    async def _notify_member(self, instance: InstanceId, name: str, beat: int, is_done: bool) -> None:
        try:
            await self._notify(instance, name, beat, is_done)
        except LightbusException as error:
            logger.debug("%s was not notified of the schedule %s, and may run it, too: %s", instance, name, error)


class SchedulesApi(Api):
    """`internal.schedules`: reports between workers of a service about schedules that only one of them runs."""

    class Meta:
        name = SCHEDULES_API
        internal = True

    def __init__(self, election: ScheduleElection) -> None:
        self._election = election

    async def note(self, instance: str, schedule: str, beat: int, done: bool) -> None:
        """Record that a worker has begun a beat of a schedule, or has finished all beats up to it."""
        self._election.on_report(instance, schedule, beat, is_done=done)


def stats_of(counts: Mapping[str, Counter[str]]) -> Iterable[dict[str, object]]:
    """Yield the counters of each schedule as plain values."""
    for name, count in counts.items():
        yield {"name": name, **{what: count[what] for what in ("ran", "left", "taken_over")}}


def election_of(engine: Engine, join: Callable[[], Awaitable[None]]) -> ScheduleElection:
    """Return the election of a worker of this engine."""
    me = engine.identity

    def members(schedule: str) -> list[InstanceId]:
        return [
            peer.instance
            for peer in engine.snapshot.by_api.get(SCHEDULES_API, ())
            if peer.announcement.service == me.service
            and any(info.name == SCHEDULES_API and schedule in info.procedures for info in peer.announcement.apis or ())
        ]

    async def notify(instance: InstanceId, schedule: str, beat: int, done: bool) -> None:
        peer = engine.snapshot.peers.get(instance)
        if peer is not None:
            kwargs = {"instance": me.instance, "schedule": schedule, "beat": beat, "done": done}
            await ask(engine, peer, SCHEDULES_API, "note", kwargs)

    return ScheduleElection(me.instance, members, notify, join)
