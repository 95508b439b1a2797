"""An outbox in the memory of one process: events that wait until a process on the bus publishes them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from ...ports.outbox import TRY_AGAIN_AFTER, Refused, Waiting
from ..host.machine_time import machine_time

__all__ = ["MemoryOutbox"]


class MemoryOutbox:
    """
    The outbox of a bus in memory, shared by all its users. Any thread may use it.

    Attributes:
        path: the name of its place in log lines and errors.

    """

    is_on_disk = False
    path = "memory"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held while the content is read or changed."""
        self._handing_off = threading.Lock()
        """Held by the one that hands off events."""
        self._waiting: dict[str, Waiting] = {}
        """The waiting events by id, in order."""
        self._refused: dict[str, tuple[str, str, float]] = {}
        """For each refused id: the form of its API at the time, the error, and the machine's time."""
        self._seen: defaultdict[str, set[str]] = defaultdict(set)
        self._changes = 0

    def exists(self) -> bool:
        """Return whether the outbox was ever used."""
        return self._changes > 0

    def state(self) -> tuple[int, ...] | None:
        """Return a value that changes with every write; None before the first one."""
        return (self._changes,) if self._changes else None

    def put_all(
        self, *, api: str, event: str, rows: Iterable[tuple[str, str | None, bytes]], service: str = ""
    ) -> None:
        """Store events of one name."""
        now = time.time()
        with self._lock:
            self._changes += 1
            for id, key, record in rows:
                self._waiting.setdefault(id, Waiting(id, api, event, key, record, now, None, service))

    def waiting(self, published: Mapping[str, str] | None = None, limit: int = 100) -> list[Waiting]:
        """Return the waiting events that are due, in order."""
        now = machine_time()
        with self._lock:
            return [each for each in self._waiting.values() if self._is_due(each, published, now)][:limit]

    def _is_due(self, event: Waiting, published: Mapping[str, str] | None, now: float) -> bool:
        if published is None:
            return True
        if event.api not in published:
            return False
        form, _, at = self._refused.get(event.id, (None, "", 0.0))
        return form != published[event.api] or not now - TRY_AGAIN_AFTER <= at <= now

    def delivered(self, ids: Iterable[str]) -> None:
        """Remove events that were handed off."""
        with self._lock:
            self._changes += 1
            for id in ids:
                self._waiting.pop(id, None)
                self._refused.pop(id, None)

    def refuse(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        """Record that events were refused."""
        now = machine_time()
        with self._lock:
            self._changes += 1
            for id, form, error in refusals:
                if id in self._waiting:
                    self._refused[id] = form, error, now
                    self._waiting[id] = self._waiting[id]._replace(refused=form)

    def refused(self) -> list[Refused]:
        """Return the waiting events that publishers refused, counted for each event name."""
        with self._lock:
            numbers = Counter[tuple[str, str]]()
            errors: dict[tuple[str, str], str] = {}
            for id, (_, error, _) in sorted(self._refused.items(), key=lambda each: each[1][2]):
                name = self._waiting[id].api, self._waiting[id].event
                numbers[name] += 1
                errors[name] = error  # the latest one, by the sort order
        return [Refused(*name, numbers[name], errors[name]) for name in sorted(numbers)]

    def counts(self) -> dict[str, int]:
        """Return the number of waiting events of each API."""
        with self._lock:
            return dict(Counter(each.api for each in self._waiting.values()))

    def services(self) -> dict[str, str]:
        """Return, for each API, the service whose own process added its events, if one did."""
        with self._lock:
            return {each.api: each.service for each in self._waiting.values() if each.service}

    def note_seen(self, api: str, event: str) -> None:
        """Remember that an event of this name exists."""
        with self._lock:
            self._changes += 1
            self._seen[api].add(event)

    def seen(self, api: str) -> set[str]:
        """Return the events of an API that this bus has seen."""
        with self._lock:
            return set(self._seen[api])

    @contextlib.contextmanager
    def hold(self) -> Iterator[Callable[[], bool]]:
        """Be the only one to hand off events, while this context lasts; the given function returns whether we are."""
        is_ours = self._handing_off.acquire(blocking=False)
        try:
            yield lambda: is_ours
        finally:
            if is_ours:
                self._handing_off.release()
