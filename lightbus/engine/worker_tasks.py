"""What a worker runs besides calls and events: the schedules and background tasks that were declared."""

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
    """When a function of the user's runs again."""

    def follow(self, run: Callable[[Callable[..., Any]], Awaitable[Any]]) -> Coroutine[Any, Any, None]:
        """Run the function by `run` whenever it is due, until cancelled."""


class ElectedSchedule(Protocol):
    """A schedule whose function one worker of the service runs each time."""

    def follow(
        self, run: Callable[[Callable[..., Any]], Awaitable[Any]], election: ScheduleElection
    ) -> Coroutine[Any, Any, None]:
        """Run the function by `run` whenever it is due and this worker's turn, until cancelled."""


class TasksUser(Protocol):
    """The declarations of tasks: the client."""

    @property
    def timetables(self) -> Sequence[TimedSchedule]:
        """The schedules that were declared."""

    @property
    def in_turn(self) -> Sequence[ElectedSchedule]:
        """Those that one worker of the service runs each time."""

    def take_background_tasks(self) -> list[Awaitable[Any]]:
        """Return the background tasks that were added, and forget them."""


class WorkerTasks:
    """
    Only touched from the worker's loop. Nothing runs before `start`.

    Args:
        user: has the declared tasks.
        executor: the threads for `def` functions.
        on_failure: is called where one has ended that should not, after it was logged.
        election: says whose turn it is.

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
        """Start what was declared so far."""
        self._runs = True
        self.start_new()

    def start_new(self) -> None:
        """Start what was declared since; nothing before `start`, and after `cancel`."""
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
            task.add_done_callback(partial(_close, awaitable))  # where it is cancelled before it has begun

    def cancel(self) -> None:
        """Cancel all of them, and start none."""
        self._runs = False
        for task in self._tasks:
            task.cancel()

    async def wait(self, seconds: float) -> None:
        """Return when all have ended, or the time is over."""
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
            report(logger, logging.CRITICAL, error, "A schedule has ended, and its function is run no more")
            self._on_failure()

    async def _run_in_background(self, awaitable: Awaitable[Any]) -> None:
        execution = Execution(self._loop, self._executor)
        try:
            await execution.apart(execution.finish(awaitable))
        except BaseException as error:
            if is_cancelled():
                raise
            text = "A background task failed; the worker stops, since it may be half a worker now"
            report(logger, logging.CRITICAL, error, text)
            self._on_failure()

    async def _run(self, function: Callable[..., Any]) -> Any:
        """Run a function of the user's in a context and a task of its own."""
        execution = Execution(self._loop, self._executor)
        return await execution.apart(execution.call(function, on_loop=runs_on_loop(function)))


def _close(awaitable: Awaitable[Any], task: asyncio.Task[None]) -> None:
    close_unused(awaitable)
