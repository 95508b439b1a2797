"""Declaring what a worker runs by itself: schedules and background tasks."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..exceptions import InvalidDeclaration, InvalidSchedule
from ..scheduling import InTurn, ScheduleJob, Timetable, every, every_in_turn, scheduled
from ..service.execution import close_unused, name_of, runs_on_loop
from .worker_holder import WorkerHolder

__all__ = ["Schedules"]

logger = logging.getLogger("lightbus.client")

F = TypeVar("F", bound=Callable[..., Any])


SECONDS = {
    "microseconds": 1e-6,
    "milliseconds": 1e-3,
    "seconds": 1,
    "minutes": 60,
    "hours": 3600,
    "days": 86_400,
    "weeks": 604_800,
}
"""The length of each unit of an interval."""


class Schedules:
    """
    The part of a client that declares schedules and background tasks.

    Attributes:
        timetables: schedules that each worker runs.
        in_turn: schedules that one worker of the service runs each time.

    """

    def __init__(self, workers: WorkerHolder) -> None:
        self.timetables: list[Timetable] = []
        self.in_turn: list[InTurn] = []
        self._workers = workers
        self._background_tasks: list[Awaitable[Any]] = []

    def every(
        self, *, also_run_immediately: bool = False, once_per_service: bool = False, **given: float
    ) -> Callable[[F], F]:
        """
        Run the decorated function at a fixed interval, without drift. Raises InvalidSchedule.

        With `once_per_service`, one worker of the service runs it each time. `given` is the interval, in the units of
        timedelta.
        """
        for unit, count in given.items():
            if isinstance(count, bool) or not isinstance(count, (int, float)):
                raise InvalidSchedule(
                    f"every({unit}={count!r:.100}) is not an interval: give a number, as every({unit}=5)."
                )
        interval = sum(SECONDS[unit] * count for unit, count in given.items())
        if not 0 < interval < math.inf:
            said = ", ".join(f"{unit}={count!r}" for unit, count in given.items() if count) or "nothing"
            raise InvalidSchedule(
                f"every() needs an interval above 0 that ends, as every(minutes=5), and was given {said}."
            )

        def decorate(function: F) -> F:
            if once_per_service:
                self.in_turn.append(
                    every_in_turn(function, seconds=interval, also_run_immediately=also_run_immediately)
                )
            else:
                self.timetables.append(every(function, seconds=interval, also_run_immediately=also_run_immediately))
            self._workers.change(lambda worker: worker.start_tasks())
            return function

        return decorate

    def schedule(self, schedule_job: ScheduleJob, also_run_immediately: bool = False) -> Callable[[F], F]:
        """Run the decorated function when a job of the `schedule` library is due. Raises InvalidSchedule."""

        def decorate(function: F) -> F:
            self.timetables.append(scheduled(function, schedule_job, also_run_immediately=also_run_immediately))
            self._workers.change(lambda worker: worker.start_tasks())
            return function

        return decorate

    def add_background_task(self, coroutine: Awaitable[Any]) -> None:
        """Run a coroutine once beside the worker. Raises InvalidDeclaration for an object that cannot be awaited."""
        if not inspect.isawaitable(coroutine):
            raise InvalidDeclaration(_no_background_task(coroutine))
        self._background_tasks.append(coroutine)
        self._workers.change(lambda worker: worker.start_tasks())

    def take_background_tasks(self) -> list[Awaitable[Any]]:
        """Return the background tasks that were added, and forget them: a coroutine runs once."""
        taken, self._background_tasks = self._background_tasks, []
        return taken

    def drop_background_tasks(self) -> None:
        """Log which background tasks were never run, and close them."""
        for coroutine in self.take_background_tasks():
            logger.warning("The background task %s was never run: no worker has started", name_of(coroutine))
            close_unused(coroutine)


def _no_background_task(given: Any) -> str:
    if not callable(given):
        return f"add_background_task() needs a coroutine, and {given!r:.100} is none."
    name = name_of(given)
    if runs_on_loop(given):
        return (
            f"add_background_task() needs a coroutine, and {name} is the function that makes one. "
            f"Call it: add_background_task({name.rpartition('.')[2]}())."
        )
    return (
        f"add_background_task() needs a coroutine, and {name} is a function. Make it an `async def` and call it: "
        f"add_background_task({name.rpartition('.')[2]}()); or have it run by the clock, with every() or schedule()."
    )
