"""A listener as it is declared: the function that is called for events, and what happens when it raises."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

__all__ = ["EACH_FOR_ITSELF", "Listener", "OnError"]

EACH_FOR_ITSELF = ""
"""The group of listeners that share nothing: each is given everything, as long as it is connected."""


class OnError(Enum):
    """What happens when a listener's handler raises."""

    STOP_LISTENER = "stop_listener"
    """The default. Try the event again as with RETRY; after `max_deliveries` it becomes a dead letter, and this
    listener stops, for whatever comes next may fail as well. It leaves its group: the group's other processes go on
    with its share, and where there is none, events wait. The worker goes on, and ends with exit code 1: a human has to
    look."""
    SHUTDOWN = "shutdown"
    """Stop the worker at once, with exit code 1 (the default of Lightbus 1.x)."""
    ACKNOWLEDGE_AND_LOG = "acknowledge_and_log"
    """Log it, and go on with the next event."""
    RETRY = "retry"
    """Try the event again after a pause of a second, which doubles up to five minutes; what comes behind it in its
    partition waits. After `max_deliveries` it becomes a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """
    A function that is called for events.

    Attributes:
        api, events: what it listens to; the event `"*"` means all of the API.
        name: tells it from the other listeners of its service.
        function: `def` or `async def`; is given the EventMessage first (unless its first parameter has the name of
            an argument), and the arguments by name.
        on_error: what happens when it raises.
        group: the consumer group, with the placeholder `{service_name}`; None where each process is given everything.
        concurrency: how many partitions it handles side by side.
        max_deliveries: how often an event is given to the group at most, before it becomes a dead letter.
        since: where a new group begins: an id, a datetime, `"0"` or `"$"`.

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

    @property
    def digest(self) -> str:
        """What tells it from another program's listener under the same group name."""
        function = inspect.unwrap(self.function)
        where = f"{getattr(function, '__module__', '')}:{self.name}"
        return hashlib.blake2b(where.encode(), digest_size=6).hexdigest()

    def wants(self, event: str) -> bool:
        """Return whether it listens to an event of its API."""
        return event in self.events or "*" in self.events

    def group_of(self, service: str) -> str:
        """Return the group's name in a service; empty where each process is given everything."""
        return EACH_FOR_ITSELF if self.group is None else self.group.replace("{service_name}", service)

    def __str__(self) -> str:
        return f"{self.name} of {', '.join(f'{self.api}.{event}' for event in self.events)}"
