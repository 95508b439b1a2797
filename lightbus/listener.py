"""A listener as it is declared: the function that is called for events, and what happens when it raises."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from .exceptions import LightbusException

__all__ = ["EACH_FOR_ITSELF", "BatchFailed", "Listener", "OnError"]

EACH_FOR_ITSELF = ""
"""The group name of listeners without a group: each process gets every event, while it is connected."""


MOST_NAMED = 10
"""The most events that the text of an exception names."""


class BatchFailed(LightbusException):
    """
    Some events of a batch failed. A listener with `batch` raises it, so that the other events count as handled.

        raise BatchFailed([message, ...]) from error
        raise BatchFailed({message: error, ...})

    """

    def __init__(self, failed: Iterable[Any] | Mapping[Any, BaseException | None]) -> None:
        """Take the failed events as EventMessages or ids; a mapping gives each its error."""
        if isinstance(failed, str) or not isinstance(failed, Iterable):
            failed = [failed]
        rows = failed.items() if isinstance(failed, Mapping) else ((each, None) for each in failed)
        self._reasons: dict[str, BaseException | None] = {_id_of(each): error for each, error in rows}
        named = [*self._reasons][:MOST_NAMED]
        super().__init__(f"{len(self._reasons)} events failed: {', '.join(named)}")

    @property
    def reasons(self) -> dict[str, BaseException]:
        """The error of each failed event by its id: the given one, else this exception's cause, else this exception."""
        common = self.__cause__ or self
        return {id: common if error is None else error for id, error in self._reasons.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return BatchFailed, (self._reasons,), self.__dict__  # with the notes


def _id_of(failed: Any) -> str:
    found = failed if isinstance(failed, str) else getattr(failed, "id", None)
    if not isinstance(found, str):
        raise TypeError(f"BatchFailed takes EventMessages, or their ids, and was given {failed!r:.100}.")
    return found


def _origin(function: Any) -> str:
    """Return the module and qualified name of a function, the same in each process of a program."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    named = function if hasattr(function, "__qualname__") else type(function)
    module = named.__module__
    if module == "__main__":  # every script is called so: use the script's file name to distinguish programs
        main = sys.modules[module]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec is not None else Path(getattr(main, "__file__", None) or module).stem
    return f"{module}:{named.__qualname__}"


class OnError(Enum):
    """What happens when a listener's handler raises."""

    STOP_LISTENER = "stop_listener"
    """The default. Retry the event as with RETRY; after `max_deliveries` it becomes a dead letter, and this listener
    stops, since the next events may fail as well. It leaves its group: the group's other processes take over its
    share; without any, events wait. The worker keeps running, and ends with exit code 1: an operator has to look."""
    SHUTDOWN = "shutdown"
    """Stop the worker at once, with exit code 1 (the default of Lightbus 1.x)."""
    ACKNOWLEDGE_AND_LOG = "acknowledge_and_log"
    """Log the error, and continue with the next event."""
    RETRY = "retry"
    """Retry the event after a pause of a second, which doubles up to five minutes; later events of its partition wait
    meanwhile. After `max_deliveries` it becomes a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """
    A function that is called for events.

    Attributes:
        api, events: what it listens to; the event `"*"` means all of the API.
        name: distinguishes it from the other listeners of its service.
        function: `def` or `async def`; takes the EventMessage first (unless its first parameter has the name of an
            argument), and the arguments by name.
        on_error: what happens when it raises.
        group: the consumer group, with the placeholder `{service_name}`; None where each process gets every event.
        concurrency: how many partitions it handles concurrently.
        max_deliveries: how often an event is delivered to the group at most, before it becomes a dead letter.
        since: where a new group begins: an id, a datetime, `"0"` or `"$"`.
        batch: the most events passed together, as a list of EventMessages; 0: one event at a time.
        batch_wait: seconds for which a batch that is not full waits for more.
        takes_raw: whether it is a plain internal function that takes undecoded events (`RawEvents`), without a group:
            for code that reads a few of many events, since decoding each takes longer than everything else.

    """

    api: str
    events: tuple[str, ...]
    name: str
    function: Callable[..., Any]
    on_error: OnError = OnError.STOP_LISTENER
    group: str | None = None
    concurrency: int = 1
    max_deliveries: int = 5
    since: Any = None
    batch: int = 0
    batch_wait: float = 0.0
    takes_raw: bool = False

    @property
    def digest(self) -> str:
        """Distinguishes this listener from another program's listener with the same group name."""
        where = f"{_origin(self.function)}:{self.name}"
        return hashlib.blake2b(where.encode(), digest_size=6).hexdigest()

    @property
    def is_in_order(self) -> bool:
        """Whether the events of a publisher arrive in the order fired, over all partitions; else only within each."""
        return self.concurrency == 1 and not self.takes_raw

    def wants(self, event: str) -> bool:
        """Return whether the listener listens to an event of its API."""
        return event in self.events or "*" in self.events

    def group_of(self, service: str) -> str:
        """Return the group's name in a service; empty where each process gets every event."""
        return EACH_FOR_ITSELF if self.group is None else self.group.replace("{service_name}", service)

    def __str__(self) -> str:
        return f"{self.name} of {', '.join(f'{self.api}.{event}' for event in self.events)}"
