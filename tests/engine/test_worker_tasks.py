"""Schedules and background tasks of a worker: when they start, and the effect of their failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus.engine.schedule_election import ScheduleElection
from lightbus.engine.worker_tasks import WorkerTasks


class Once:
    """A timetable with a single time: now."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function

    async def follow(self, run: Callable[[Callable[..., Any]], Awaitable[Any]]) -> None:
        await run(self._function)
        await asyncio.get_running_loop().create_future()


class Declared:
    """The declarations of a client."""

    def __init__(self) -> None:
        self.timetables: list[Once] = []
        self.in_turn: list[Any] = []
        self.background: list[Awaitable[Any]] = []

    def take_background_tasks(self) -> list[Awaitable[Any]]:
        taken, self.background = self.background, []
        return taken


async def _join() -> None:
    raise AssertionError("nothing is run in turn here")


async def _tell(instance: str, schedule: str, beat: int, done: bool) -> None:
    raise AssertionError("nothing is run in turn here")


def run(scenario: Callable[[Declared, WorkerTasks, list[str]], Awaitable[None]]) -> None:
    """Run a scenario with tasks that were not started, and the list of their failures."""

    async def main() -> None:
        declared, failures = Declared(), list[str]()
        with ThreadPoolExecutor(2) as executor:
            tasks = WorkerTasks(
                declared,
                executor,
                lambda: failures.append("failed"),
                ScheduleElection("a" * 16, lambda name: [], _tell, _join),
            )
            try:
                await scenario(declared, tasks, failures)
            finally:
                tasks.cancel()
                await tasks.wait(5)

    asyncio.run(main())


def test_nothing_runs_before_the_start_or_after_the_end() -> None:
    """Declarations before the start are run when the worker starts, once; those after the stop are not."""

    async def scenario(declared: Declared, tasks: WorkerTasks, failures: list[str]) -> None:
        ran: list[int] = []
        declared.timetables.append(Once(lambda: ran.append(1)))
        tasks.start_new()
        await asyncio.sleep(0)
        assert ran == []
        tasks.start()
        declared.timetables.append(Once(lambda: ran.append(2)))
        tasks.start_new()
        await wait_until_async(lambda: sorted(ran) == [1, 2])
        tasks.cancel()
        declared.timetables.append(Once(lambda: ran.append(3)))
        tasks.start_new()
        await tasks.wait(5)
        assert (sorted(ran), failures) == ([1, 2], [])

    run(scenario)


@pytest.mark.parametrize("kind", ["background task", "timetable"])
def test_a_failure_is_reported(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A background task, or a timetable, that ends by an error is logged, and the worker is notified."""

    async def fail() -> None:
        raise ValueError("as it should")

    class Broken(Once):
        async def follow(self, run: Callable[[Callable[..., Any]], Awaitable[Any]]) -> None:
            await fail()

    async def scenario(declared: Declared, tasks: WorkerTasks, failures: list[str]) -> None:
        if kind == "timetable":
            declared.timetables.append(Broken(fail))
        else:
            declared.background.append(fail())
        tasks.start()
        await wait_until_async(lambda: failures == ["failed"])
        assert any("as it should" in (record.exc_text or record.getMessage()) for record in caplog.records)

    run(scenario)


def test_a_background_task_that_is_cancelled_before_its_start_is_closed() -> None:
    """There is no warning of a coroutine that was never awaited: it was closed."""

    async def scenario(declared: Declared, tasks: WorkerTasks, failures: list[str]) -> None:
        async def wait() -> None:
            await asyncio.sleep(60)

        coroutine = wait()
        declared.background.append(coroutine)
        tasks.start()
        tasks.cancel()
        await tasks.wait(5)
        await asyncio.sleep(0)
        assert (coroutine.cr_frame, failures) == (None, [])

    run(scenario)
