"""The events in the publishers' journals, read page by page and merged in order of time."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ...core.peers import Peer
from ...exceptions import LightbusException, LightbusTimeout, NotReachable, ProtocolError
from ...wire.event_names import declared_event
from .connection import Connection
from .publishers import ask_publishers

__all__ = ["Journals"]

PAGE_TIMEOUT = 10.0
"""Seconds for reading a page: it may be a megabyte, and the publisher may be busy."""


@dataclass(slots=True, kw_only=True)
class _Reader:
    """One journal at its publisher, and the position up to which it was read."""

    journal: str
    publisher: str
    through: int = 0
    page: list[dict[str, Any]] = field(default_factory=list)
    """Events read but not yielded yet, the newest first."""
    left: float = inf
    """How many more pages may be read by the present call of `events`."""


@dataclass(slots=True, kw_only=True)
class _BackwardReader:
    """One journal read from its end."""

    reader: _Reader
    before: int | None = 0
    """The sequence before which the next page ends: 0 for the journal's end, None if there are no more."""
    page: list[dict[str, Any]] = field(default_factory=list)
    """Events read but not yielded yet, the oldest first."""


class Journals:
    """
    All journals on the bus. A further call of `events` continues where the last one stopped, to follow the journals.

    Args:
        bus: the bus.
        api, event: names of the events, with wildcards.
        begin: called with a journal's name and the sequence of its newest event; returns the sequence after which to
            begin reading.

    """

    def __init__(
        self,
        bus: Connection,
        *,
        api: str = "*",
        event: str = "*",
        begin: Callable[[str, int], int] = lambda journal, head: 0,
    ) -> None:
        self.failure: LightbusException | None = None
        """The error of a publisher that did not answer, so that not everything was read; or None."""
        self.total = 0
        """The number of events in the journals, wanted or not."""
        self.has_more = False
        """Whether the latest call of `events` has left events of a journal to the next one."""
        self._bus = bus
        self._api, self._event, self._begin = api, event, begin
        self._readers: dict[str, _Reader] = {}
        self._served: list[str] = []
        self._silent: set[str] = set()
        """Publishers that did not answer in this reading: each of their other journals would take the timeout again."""

    async def look(self) -> None:
        """Find all journals, or new ones. Raises NotReachable if there is no peer."""
        self.note(await ask_publishers(self._bus, "journals"))

    def note(self, reports: Iterable[tuple[Peer, Any]]) -> None:
        """Record the publishers' reports on their journals."""
        reports = list(reports)
        heads = {each["journal"]: int(each.get("head") or 0) for _, journals in reports for each in journals}
        served = {each["journal"]: (peer.instance, each["events"]) for peer, journals in reports for each in journals}
        for journal, (instance, _) in served.items():
            if (reader := self._readers.get(journal)) is None:
                begin = self._begin(journal, heads[journal])
                reader = self._readers[journal] = _Reader(journal=journal, publisher=instance, through=begin)
            reader.publisher = instance  # another process may have adopted it
        self._served = [*served]
        self.total = sum(events for _, events in served.values())

    async def events(self, pages: float = inf) -> AsyncIterator[dict[str, Any]]:
        """
        Yield the stored events in order of time, up to the newest at present.

        `pages` are the most that are read of one journal, for a reader that must get on with the others: the next call
        continues there.
        """
        # Sorted by time, then by place: places are unique, so dicts are never compared.
        heads: list[tuple[float, str, int, dict[str, Any]]] = []
        self.has_more = False
        for reader in self._readers.values():
            reader.left = pages
        self._silent.clear()
        for journal in self._served:
            await self._push(heads, journal)
        while heads:
            _, journal, _, event = heapq.heappop(heads)
            yield event
            await self._push(heads, journal)

    async def newest_first(
        self, limit: int, between: tuple[float | None, float | None]
    ) -> AsyncIterator[dict[str, Any]]:
        """
        Yield the stored events, the newest first; events that cannot be in a range of times are left out.

        Args:
            limit: the number of events per request: about as many as the caller will take.
            between: the range, in seconds since 1970.

        """
        heads: list[tuple[float, str, int, dict[str, Any]]] = []
        self._silent.clear()
        readers = {journal: _BackwardReader(reader=reader) for journal, reader in self._readers.items()}
        question = {"api": self._api, "event": self._event, "start": between[0], "stop": between[1], "limit": limit}

        async def push(journal: str) -> None:
            each = readers[journal]
            while not each.page and each.before is not None:
                where = {"journal": journal} | ({"before": each.before} if each.before else {})
                page = await self._ask(each.reader, "latest", question | where)
                if page is None or (
                    page["before"] and self._is_stuck(each.reader, page["before"] < (each.before or inf))
                ):
                    each.before = None
                else:
                    each.page, each.before = page["events"][::-1], page["before"]
            if each.page:
                event = self._with_own_name(each.reader, each.page.pop())
                place = int(event["native_id"].rpartition("-")[2])
                heapq.heappush(heads, (-event["published_at"], journal, -place, event))

        for journal in readers:
            await push(journal)
        while heads:
            _, journal, _, event = heapq.heappop(heads)
            yield event
            await push(journal)

    def places(self) -> dict[str, int]:
        """Return journal -> the sequence up to which it was read, once `events` has yielded all."""
        return {journal: reader.through for journal, reader in self._readers.items()}

    async def find(self, native_id: str) -> dict[str, Any] | None:
        """Return the event with this native id, or None. Raises ValueError for an invalid native id."""
        journal, _, number = native_id.rpartition("-")
        if not journal or not number.isdigit():
            raise ValueError(f"'{native_id}' is not a native id: that is a journal's name, '-' and a number")
        if (reader := self._readers.get(journal)) is None:
            return None
        reader.through = int(number) - 1
        found = await self._page(reader, limit=1)
        return next((self._with_own_name(reader, each) for each in found if each["native_id"] == native_id), None)

    async def _push(self, heads: list[tuple[float, str, int, dict[str, Any]]], journal: str) -> None:
        reader = self._readers[journal]
        if not reader.page:
            reader.page = (await self._page(reader))[::-1]
        if reader.page:
            event = self._with_own_name(reader, reader.page.pop())
            heapq.heappush(heads, (event["published_at"], journal, int(event["native_id"].rpartition("-")[2]), event))

    async def _page(self, reader: _Reader, **limit: int) -> list[dict[str, Any]]:
        """Return the next page of wanted events; empty if there are no more, or no answer."""
        more = True
        found: list[dict[str, Any]] = []
        while more and not found:
            if not reader.left:
                self.has_more = True
                break
            reader.left -= 1
            question = {"journal": reader.journal, "after": reader.through, "api": self._api, "event": self._event}
            page = await self._ask(reader, "kept", question | limit)
            if page is None or (page["more"] and self._is_stuck(reader, page["through"] > reader.through)):
                return []
            found, more, reader.through = page["events"], page["more"], page["through"]
        return found

    def _is_stuck(self, reader: _Reader, gets_on: bool) -> bool:
        """Return whether a publisher keeps reporting the same events, and record that as a failure."""
        if not gets_on:
            text = f"{reader.publisher} keeps reporting more events in {reader.journal}."
            self.failure = ProtocolError(text)
        return not gets_on

    async def _ask(self, reader: _Reader, procedure: str, question: dict[str, Any]) -> dict[str, Any] | None:
        """Return a page of a journal; None if there is no answer, which is recorded."""
        if reader.publisher in self._silent:
            return None
        options = {"peer": reader.publisher, "timeout": PAGE_TIMEOUT}
        try:
            page: dict[str, Any] | None
            page = await self._bus.client.call_rpc_remote("internal.events", procedure, question, options)
            if page is None:
                raise NotReachable(f"The journal {reader.journal} is not served any more where it was.")
        except LightbusException as error:
            self.failure = error
            if isinstance(error, LightbusTimeout):
                self._silent.add(reader.publisher)
            return None
        return page

    @staticmethod
    def _with_own_name(reader: _Reader, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event under its declared name: a redelivery to one group is stored under a longer name."""
        return {**event, "event": declared_event(event["event"]), "publisher": reader.publisher}
