"""The events that the publishers' journals keep, read page by page and put in the order in which they were fired."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ...exceptions import LightbusException, NotReachable, ProtocolError
from ...wire.event_names import declared_event
from .connection import Connection
from .publishers import ask_publishers

__all__ = ["Journals"]

PAGE_TIMEOUT = 10.0
"""Seconds for a page: it may be a megabyte, and the publisher may be busy."""


@dataclass(slots=True, kw_only=True)
class _Reader:
    """One journal at one publisher, and how far it was read."""

    journal: str
    publisher: str
    through: int = 0
    page: list[dict[str, Any]] = field(default_factory=list)
    """What was read of it and not yet given out, the newest first."""


class Journals:
    """
    All journals on the bus. `events` goes on where it stopped when it is called again: so it follows them.

    Args:
        bus: the bus.
        api, event: which events; names may have wildcards.

    """

    def __init__(self, bus: Connection, *, api: str = "*", event: str = "*") -> None:
        self.failure: LightbusException | None = None
        """Why not all was read, where a publisher did not answer."""
        self.total = 0
        """How many events there are in the journals, wanted or not."""
        self._bus = bus
        self._api, self._event = api, event
        self._readers: dict[str, _Reader] = {}

    async def look(self) -> None:
        """Find the journals, and those that were added meanwhile. Raises NotReachable where nobody is on the bus."""
        told = await ask_publishers(self._bus, "journals")
        served = {each["journal"]: (peer.instance, each["events"]) for peer, journals in told for each in journals}
        for journal, (instance, _) in served.items():
            reader = self._readers.setdefault(journal, _Reader(journal=journal, publisher=instance))
            reader.publisher = instance  # another process may have adopted it
        self.total = sum(events for _, events in served.values())

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the events that are kept, in the order of their times, up to the newest of now."""
        # By time, then by place: no two are at the same one, so that dicts are never compared.
        heads: list[tuple[float, str, int, dict[str, Any]]] = []
        for journal in self._readers:
            await self._push(heads, journal)
        while heads:
            _, journal, _, event = heapq.heappop(heads)
            yield event
            await self._push(heads, journal)

    async def find(self, native_id: str) -> dict[str, Any] | None:
        """Return the event at a place; None where it is not there. Raises ValueError for what names no place."""
        journal, _, number = native_id.rpartition("-")
        if not journal or not number.isdigit():
            raise ValueError(f"'{native_id}' is no native id: that is a journal's name, '-' and a number")
        if (reader := self._readers.get(journal)) is None:
            return None
        reader.through = int(number) - 1
        found = await self._page(reader, limit=1)
        return next((self._told(reader, each) for each in found if each["native_id"] == native_id), None)

    async def _push(self, heads: list[tuple[float, str, int, dict[str, Any]]], journal: str) -> None:
        reader = self._readers[journal]
        if not reader.page:
            reader.page = (await self._page(reader))[::-1]
        if reader.page:
            event = self._told(reader, reader.page.pop())
            heapq.heappush(heads, (event["published_at"], journal, int(event["native_id"].rpartition("-")[2]), event))

    async def _page(self, reader: _Reader, **limit: int) -> list[dict[str, Any]]:
        """Return the next events that are wanted; none where there is none, or nobody answers any more."""
        more = True
        found: list[dict[str, Any]] = []
        while more and not found:
            question = {"journal": reader.journal, "after": reader.through, "api": self._api, "event": self._event}
            options = {"peer": reader.publisher, "timeout": PAGE_TIMEOUT}
            try:
                page = await self._bus.client.call_rpc_remote("internal.events", "kept", question | limit, options)
                if page is None:
                    raise NotReachable(f"The journal {reader.journal} is not served any more where it was.")
                if page["more"] and page["through"] <= reader.through:
                    raise ProtocolError(
                        f"{reader.publisher} says again and again that there is more in {reader.journal}."
                    )
            except LightbusException as error:
                self.failure = error
                return []
            found, more, reader.through = page["events"], page["more"], page["through"]
        return found

    @staticmethod
    def _told(reader: _Reader, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event with its own name: one that a group is given again is kept under a longer one."""
        return {**event, "event": declared_event(event["event"]), "publisher": reader.publisher}
