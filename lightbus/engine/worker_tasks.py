"""Runs the declared schedules and background tasks of a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

from ..service.execution import Execution, close_unused, is_cancelled, runs_on_loop
from ..service.failures import report
from .schedule_election import ScheduleElection

__all__ = ["ElectedSchedule", "TasksUser", "TimedSchedule", "WorkerTasks"]

logger = logging.getLogger("lightbus.worker")


class TimedSchedule(Protocol):
    """A schedule whose function every worker runs."""

    def follow(self, run: Callable[[Callable[..., Any]], Awaitable[Any]]) -> Coroutine[Any, Any, None]:
        """Run the function with `run` whenever it is due, until cancelled."""


class ElectedSchedule(Protocol):
    """A schedule whose function only one worker of the service runs each time."""

    def follow(
        self, run: Callable[[Callable[..., Any]], Awaitable[Any]], election: ScheduleElection
    ) -> Coroutine[Any, Any, None]:
        """Run the function with `run` whenever it is due and this worker is elected, until cancelled."""


class TasksUser(Protocol):
    """The declarations of tasks: the client."""

    @property
    def timetables(self) -> Sequence[TimedSchedule]:
        """The declared schedules that every worker runs."""

    @property
    def in_turn(self) -> Sequence[ElectedSchedule]:
        """The declared schedules that only one worker of the service runs each time."""

    def take_background_tasks(self) -> list[Awaitable[Any]]:
        """Return and remove the added background tasks."""


class WorkerTasks:
    """
    The schedules and background tasks. Only touched from the worker's loop. Nothing runs before `start`.

    Args:
        user: the client that has the declared tasks.
        executor: runs `def` functions.
        on_failure: called after a task that should not end has ended, and was logged.
        election: decides which worker runs a schedule.

    """

    def __init__(
        self, user: TasksUser, executor: Executor, on_failure: Callable[[], None], election: ScheduleElection
    ) -> None:
        self._user = user
        self._executor = executor
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._election = election
        self._followed: list[TimedSchedule | ElectedSchedule] = []
        self._runs = False

    def start(self) -> None:
        """Start everything that was declared so far."""
        self._runs = True
        self.start_new()

    def start_new(self) -> None:
        """Start what was declared since the last call; does nothing before `start` and after `cancel`."""
        if not self._runs:
            return
        for timetable in self._user.timetables:
            if all(each is not timetable for each in self._followed):
                self._followed.append(timetable)
                self._add(timetable.follow(self._run))
        for each in self._user.in_turn:
            if all(other is not each for other in self._followed):
                self._followed.append(each)
                self._add(each.follow(self._run, self._election))
        for awaitable in self._user.take_background_tasks():
            task = self._add(self._run_in_background(awaitable))
            task.add_done_callback(partial(_close, awaitable))  # if it is cancelled before it has begun

    def cancel(self) -> None:
        """Cancel all tasks, and start no more."""
        self._runs = False
        for task in self._tasks:
            task.cancel()

    async def wait(self, seconds: float) -> None:
        """Wait until all tasks have ended, at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def _add(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report(logger, logging.CRITICAL, error, "A schedule failed; its function is not run any more")
            self._on_failure()

    async def _run_in_background(self, awaitable: Awaitable[Any]) -> None:
        execution = Execution(self._loop, self._executor)
        try:
            await execution.in_own_task(execution.finish(awaitable))
        except BaseException as error:
            if is_cancelled():
                raise
            text = "A background task failed; the worker stops, since it cannot serve fully without it"
            report(logger, logging.CRITICAL, error, text)
            self._on_failure()

    async def _run(self, function: Callable[..., Any]) -> Any:
        """Run a function of the user in its own context and task."""
        execution = Execution(self._loop, self._executor)
        return await execution.in_own_task(execution.call(function, on_loop=runs_on_loop(function)))


def _close(awaitable: Awaitable[Any], task: asyncio.Task[None]) -> None:
    close_unused(awaitable)
