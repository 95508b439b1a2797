"""The worker that runs a schedule: exactly one if all agree on the members, and at least one in any case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import PeerLost
from lightbus.core.partitions import rendezvous
from lightbus.engine import schedule_election as module
from lightbus.engine.schedule_election import ScheduleElection, SchedulesApi, stats_of

NAME = "bus.tidy/10"
LONG = 3600.0


class Service:
    """Workers of one service that know and notify each other, except for one that gets no messages."""

    def __init__(self, *instances: str) -> None:
        self.up = [*instances]
        self.deaf: set[str] = set()
        self.workers = {instance: self._worker(instance) for instance in instances}
        order, left = list[str](), {*instances}
        while left:
            first = rendezvous(NAME, left)
            assert first is not None
            order.append(first)
            left.remove(first)
        self.first, self.second = (self.workers[each] for each in order[:2])
        self.order = order

    def _worker(self, instance: str) -> ScheduleElection:
        async def tell(other: str, name: str, beat: int, done: bool) -> None:
            if other in self.deaf:
                raise PeerLost("It does not hear.")
            await SchedulesApi(self.workers[other]).note(instance, name, beat, done)

        async def join() -> None:
            return None

        return ScheduleElection(instance, lambda name: self.up, tell, join)

    async def join(self) -> None:
        for worker in self.workers.values():
            await worker.join(NAME)

    def leaves(self, instance: str) -> None:
        self.up.remove(instance)
        for worker in self.workers.values():
            worker.wake()

    def ran(self) -> dict[str, int]:
        return {instance: worker.counts[NAME]["ran"] for instance, worker in self.workers.items()}


def run(scenario: Callable[[Service], Awaitable[None]]) -> None:
    """Run a scenario with three workers."""

    async def main() -> None:
        service = Service("a" * 16, "b" * 16, "c" * 16)
        await service.join()
        await scenario(service)
        for worker in service.workers.values():
            worker.stop()

    asyncio.run(main())


async def nothing() -> None: ...


async def beat_of(worker: ScheduleElection, beat: int, interval: float = LONG) -> bool:
    """Let a worker take part in a beat; return whether it ran the schedule."""
    if not await worker.is_our_turn(NAME, beat, interval):
        return False
    await worker.run(NAME, beat, nothing, lambda: beat)
    return True


def test_each_beat_is_run_by_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same one while the members are the same; the others count that they left the beat to it."""
    monkeypatch.setattr(module, "GRACE", LONG)

    async def scenario(service: Service) -> None:
        for beat in range(1, 6):
            assert sum(await asyncio.gather(*(beat_of(each, beat) for each in service.workers.values()))) == 1
        assert sorted(service.ran().values()) == [0, 0, 5]
        assert dict(service.first.counts[NAME]) == {"ran": 5, "left": 0, "taken_over": 0}
        assert [*stats_of(service.second.counts)] == [{"name": NAME, "ran": 0, "left": 5, "taken_over": 0}]

    run(scenario)


def test_a_worker_that_leaves_is_replaced_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the run has begun or ended, without any wait: its departure is known."""
    monkeypatch.setattr(module, "GRACE", LONG)
    caplog.set_level(logging.INFO)

    async def scenario(service: Service) -> None:
        first, second = service.order[:2]
        waiting = [asyncio.create_task(beat_of(service.workers[each], 1)) for each in service.order[1:]]
        service.second.on_report(first, NAME, 1, is_done=False)
        await asyncio.sleep(0)
        service.leaves(first)
        assert [await each for each in waiting] == [True, False]
        assert service.second.counts[NAME]["taken_over"] == 1
        assert f"is run here this time: {first}, which was elected, has left or did not start it" in caplog.text
        assert await beat_of(service.second, 2)
        assert service.second.counts[NAME]["taken_over"] == 1
        assert second in service.up

    run(scenario)


def test_a_worker_that_does_not_begin_is_replaced_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next one, and by that one's successor if it does not begin either."""
    monkeypatch.setattr(module, "GRACE", 0.02)

    async def scenario(service: Service) -> None:
        last = service.workers[service.order[2]]
        assert await beat_of(last, 1)
        assert last.counts[NAME]["taken_over"] == 1
        await asyncio.sleep(0)  # it tells the others beside its work
        assert not await beat_of(service.first, 1)  # it was told, and does not do it again

    run(scenario)


def test_a_long_run_is_not_begun_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it reports that it still runs; beats in the meantime count as run."""
    monkeypatch.setattr(module, "GRACE", 0.02)
    monkeypatch.setattr(module, "RETELL", 60.0)

    async def scenario(service: Service) -> None:
        ends = asyncio.Event()
        running = asyncio.create_task(service.first.run(NAME, 1, ends.wait, lambda: 3))
        waiting = [asyncio.create_task(beat_of(service.second, beat)) for beat in (1, 2, 3)]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        assert not service.second.elects_us(NAME)
        ends.set()
        await running
        assert [await task for task in waiting] == [False, False, False]

    run(scenario)


def test_a_worker_without_notifications_runs_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least once: the run of a beat may be unknown, but a missing run is never taken for one."""
    monkeypatch.setattr(module, "GRACE", 0.02)

    async def scenario(service: Service) -> None:
        service.deaf.add(service.order[1])
        assert await beat_of(service.first, 1)
        assert await beat_of(service.second, 1)

    run(scenario)


def test_a_worker_that_goes_silent_in_a_run_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It began, and reports nothing more, although it is still there: it may have been stopped."""
    monkeypatch.setattr(module, "GRACE", 0.02)
    monkeypatch.setattr(module, "RETELL", 0.01)

    async def scenario(service: Service) -> None:
        service.second.on_report(service.order[0], NAME, 1, is_done=False)
        assert await beat_of(service.second, 1)

    run(scenario)


@pytest.mark.parametrize("jump", [-1_000_000, 1_000_000])
def test_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    """Runs by the former clock say nothing about the beats of the new one."""
    monkeypatch.setattr(module, "GRACE", 0.02)

    async def scenario(service: Service) -> None:
        service.first.on_report(service.order[1], NAME, 2_000_000, is_done=True)
        assert await beat_of(service.first, 2_000_000 + jump)
        assert not await beat_of(service.second, 2_000_000 + jump)

    run(scenario)


def test_beats_continue_if_no_worker_reports_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that claims to run all the time delays the others for no longer than its time."""
    monkeypatch.setattr(module, "GRACE", 0.02)
    monkeypatch.setattr(module, "RETELL", 60.0)

    async def scenario(service: Service) -> None:
        service.second.on_report(service.order[0], NAME, 1, is_done=False)
        assert not await beat_of(service.second, 1, interval=0.1)

    run(scenario)


def test_reports_about_unknown_schedules_are_not_stored() -> None:
    """From any worker: unknown names would be stored for ever."""

    async def scenario(service: Service) -> None:
        service.first.on_report(service.order[1], "bus.other/10", 1, is_done=True)
        assert service.first.names == [NAME]
        notes: Any = vars(service.first)["_reports"]
        assert notes == {}

    run(scenario)


def test_a_failed_run_is_reported_as_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that stops during a run does not report it as done."""
    monkeypatch.setattr(module, "GRACE", LONG)

    async def scenario(service: Service) -> None:
        running = asyncio.create_task(service.first.run(NAME, 1, asyncio.Event().wait, lambda: 1))
        waiting = asyncio.create_task(beat_of(service.second, 1))
        await wait_until_async(lambda: not service.second.elects_us(NAME))
        running.cancel()
        await asyncio.wait([running])
        service.leaves(service.order[0])
        assert await waiting

    run(scenario)
