"""Declaring what a worker does by itself: by the clock, or beside its other work."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..exceptions import InvalidDeclaration, InvalidSchedule
from ..scheduling import ScheduleJob, Timetable, every, scheduled
from ..service.execution import name_of, runs_on_loop
from .engine_holder import ClientCore

__all__ = ["Timing"]

F = TypeVar("F", bound=Callable[..., Any])


class Timing(ClientCore):
    """The part of the client that plans."""

    def every(
        self,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        also_run_immediately: bool = False,
    ) -> Callable[[F], F]:
        """Run the decorated function at a fixed interval, without drift. Raises InvalidSchedule."""
        given = {"seconds": seconds, "minutes": minutes, "hours": hours, "days": days}
        for unit, count in given.items():
            if isinstance(count, bool) or not isinstance(count, (int, float)):
                raise InvalidSchedule(
                    f"every({unit}={count!r:.100}) is no interval: give a number, as every({unit}=5)."
                )
        interval = seconds + 60 * minutes + 3600 * hours + 86400 * days
        if not interval > 0:
            said = ", ".join(f"{unit}={count!r}" for unit, count in given.items() if count) or "nothing"
            raise InvalidSchedule(f"every() needs an interval above 0, as every(minutes=5), and was given {said}.")

        def decorate(function: F) -> F:
            self._add_timetable(every(function, seconds=interval, also_run_immediately=also_run_immediately))
            return function

        return decorate

    def schedule(self, schedule_job: ScheduleJob, also_run_immediately: bool = False) -> Callable[[F], F]:
        """Run the decorated function when a job of the `schedule` library is due. Raises InvalidSchedule."""

        def decorate(function: F) -> F:
            self._add_timetable(scheduled(function, schedule_job, also_run_immediately=also_run_immediately))
            return function

        return decorate

    def add_background_task(self, coroutine: Awaitable[Any]) -> None:
        """
        Run a coroutine, once, beside the worker: from its start on, or at once where it runs.

        It is cancelled when the worker stops. If it raises, that is logged, and the worker stops with exit code 1.

        Args:
            coroutine: as an `async def` function returns it, when it is called; or another awaitable.

        Raises:
            InvalidDeclaration: it is a function, or anything else that cannot be awaited.

        """
        if not inspect.isawaitable(coroutine):
            raise InvalidDeclaration(_no_background_task(coroutine))
        self._background_tasks.append(coroutine)
        self._change_worker(lambda worker: worker.start_tasks())

    def _add_timetable(self, timetable: Timetable) -> None:
        self.timetables.append(timetable)
        self._change_worker(lambda worker: worker.start_tasks())


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
