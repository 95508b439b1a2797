"""Keeps events that a backend cannot accept now, and later ones of their APIs, in the outbox of this host.

Any process of the bus on this host hands them over to the backend (`engine.forwarding`), in the order in which they
were fired. Only when no event of an API waits any more, further events go directly to the backend again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

from ...exceptions import EventBackendUnreachable, JournalError
from ...ports.outbox import EventOutbox
from ...recurring import RecurringLog

__all__ = ["BackendOutbox", "Keepable"]

logger = logging.getLogger("lightbus.publishing")

T = TypeVar("T")


class Keepable(NamedTuple):
    """An event of this process that a backend has not accepted."""

    event: str
    id: str
    key: str | None
    record: bytes


class BackendOutbox:
    """
    The outbox for events of backends. Only touched from the node's loop.

    Args:
        outbox: the outbox of this host.
        service: the service of this process.
        executor: the threads that wait for the disk.
        counts: the publisher's counters: put_by.

    """

    def __init__(
        self, outbox: EventOutbox, service: str, executor: Callable[[], Executor], counts: Counter[str]
    ) -> None:
        self._outbox = outbox
        self._service = service
        self._executor = executor
        self._counts = counts
        self._reasons: dict[str, str] = {}
        """By API: why its events wait."""
        self._looked: set[str] = set()
        """APIs that were checked for events left by an earlier process."""
        self._failures = RecurringLog(logger)

    @property
    def path(self) -> object:
        """The path of the outbox."""
        return self._outbox.path

    @property
    def problems(self) -> list[str]:
        """A sentence for each API with waiting events, as far as this process knows."""
        return [
            f"Events of {api} wait in the outbox {self.path}, and are handed over once their backend takes them: {why}"
            for api, why in sorted(self._reasons.items())
        ]

    async def has(self, api: str) -> bool:
        """Return whether events of an API wait, so that no later one may overtake them; False if that is unreadable."""
        if api in self._looked and api not in self._reasons:
            return False
        self._looked.add(api)
        try:
            counts = await self._in_thread(self._outbox.counts) if self._outbox.exists() else {}
        except JournalError as error:
            self._failures.log("outbox", logging.ERROR, "%s Events in it may be overtaken by later ones.", error)
            return False
        if api not in counts:
            if self._reasons.pop(api, None) is not None:
                self._failures.recovered(api)
                logger.info("The events of %s that waited in the outbox were handed over to their backend", api)
            return False
        self._reasons.setdefault(api, "an earlier process left them there.")
        return True

    async def keep(self, api: str, rows: Sequence[Keepable], error: EventBackendUnreachable | None) -> None:
        """Store events, in order, because of `error`, or because others wait (None). Raises JournalError."""
        by_name: list[tuple[str, list[tuple[str, str | None, bytes]]]] = []
        for event, id, key, record in rows:
            if not by_name or by_name[-1][0] != event:
                by_name.append((event, []))
            by_name[-1][1].append((id, key, record))
        if error is not None:
            self._reasons[api] = str(error)

        def put() -> None:
            for event, each in by_name:
                self._outbox.put_all(api=api, event=event, rows=each, service=self._service)

        await self._in_thread(put)
        self._counts["put_by"] += len(rows)
        if error is not None:
            text = "Events of %s are put into the outbox %s, and handed over once their backend takes them: %s"
            self._failures.log(api, logging.WARNING, text, api, self.path, error)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor(), function)
