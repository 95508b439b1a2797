"""An outbox in the memory of one process: events that wait until somebody on the bus publishes them."""

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
    The outbox of a bus in memory, which all on that bus share. Any thread may use it.

    Attributes:
        path: what names its place in messages.

    """

    is_on_disk = False
    path = "memory"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held while what is in it is looked at or changed."""
        self._handing_off = threading.Lock()
        """Held by the one who empties it."""
        self._waiting: dict[str, Waiting] = {}
        """By id, in order."""
        self._refused: dict[str, tuple[str, str, float]] = {}
        """By id the form of the API in which it was refused, the error, and when, by the machine's time."""
        self._seen: defaultdict[str, set[str]] = defaultdict(set)
        self._changes = 0

    def exists(self) -> bool:
        """Return whether anything was ever put in."""
        return self._changes > 0

    def state(self) -> tuple[int, ...] | None:
        """Return what changes when anything is put in or taken out; None where nothing ever was."""
        return (self._changes,) if self._changes else None

    def put_all(
        self, *, api: str, event: str, rows: Iterable[tuple[str, str | None, bytes]], service: str = ""
    ) -> None:
        """Keep events of one name."""
        now = time.time()
        with self._lock:
            self._changes += 1
            for id, key, record in rows:
                self._waiting.setdefault(id, Waiting(id, api, event, key, record, now, None, service))

    def waiting(self, published: Mapping[str, str] | None = None, limit: int = 100) -> list[Waiting]:
        """Return what waits and is due, in order."""
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
        """Take out what was handed off."""
        with self._lock:
            self._changes += 1
            for id in ids:
                self._waiting.pop(id, None)
                self._refused.pop(id, None)

    def refuse(self, refusals: Iterable[tuple[str, str, str]]) -> None:
        """Note that events were refused."""
        now = machine_time()
        with self._lock:
            self._changes += 1
            for id, form, error in refusals:
                if id in self._waiting:
                    self._refused[id] = form, error, now
                    self._waiting[id] = self._waiting[id]._replace(refused=form)

    def refused(self) -> list[Refused]:
        """Return what waits since its publishers refused it."""
        with self._lock:
            numbers = Counter[tuple[str, str]]()
            errors: dict[tuple[str, str], str] = {}
            for id, (_, error, _) in sorted(self._refused.items(), key=lambda each: each[1][2]):
                name = self._waiting[id].api, self._waiting[id].event
                numbers[name] += 1
                errors[name] = error  # that of the latest
        return [Refused(*name, numbers[name], errors[name]) for name in sorted(numbers)]

    def counts(self) -> dict[str, int]:
        """Return how many events wait, by API."""
        with self._lock:
            return dict(Counter(each.api for each in self._waiting.values()))

    def services(self) -> dict[str, str]:
        """Return which service put the events of an API in, where that was its own."""
        with self._lock:
            return {each.api: each.service for each in self._waiting.values() if each.service}

    def note_seen(self, api: str, event: str) -> None:
        """Remember that there is an event of this name."""
        with self._lock:
            self._changes += 1
            self._seen[api].add(event)

    def seen(self, api: str) -> set[str]:
        """Return the events of an API that there are, as far as this bus has seen."""
        with self._lock:
            return set(self._seen[api])

    @contextlib.contextmanager
    def hold(self) -> Iterator[Callable[[], bool]]:
        """Be the one who hands off, while this lasts."""
        is_ours = self._handing_off.acquire(blocking=False)
        try:
            yield lambda: is_ours
        finally:
            if is_ours:
                self._handing_off.release()
