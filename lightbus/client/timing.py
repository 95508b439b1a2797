"""Declaring what a worker does by itself: by the clock, or beside its other work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..exceptions import InvalidSchedule
from ..scheduling import ScheduleJob, Timetable, every, scheduled
from .core import ClientCore

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
        interval = seconds + 60 * minutes + 3600 * hours + 86400 * days
        if interval <= 0:
            raise InvalidSchedule("every() needs an interval, as every(minutes=5).")

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

    def add_background_task(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine beside the worker; it is cancelled when the worker stops."""
        self._background_tasks.append(coroutine)

    def take_background_tasks(self) -> list[Coroutine[Any, Any, Any]]:
        """Return the background tasks that were added, and forget them: a coroutine runs once."""
        taken, self._background_tasks = self._background_tasks, []
        return taken

    def _add_timetable(self, timetable: Timetable) -> None:
        self.timetables.append(timetable)
