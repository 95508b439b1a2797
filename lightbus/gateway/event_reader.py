"""
The events of one name, as they happen: read once from the journals, for all streams that follow them.

A live event only signals that there is something to read: the event itself is read from its journal, in the journal's
order, so that one number for each journal is the position of a stream. Best-effort events, which no journal stores, are
taken from the live events.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

from ..cli.support.connection import Connection
from ..cli.support.kept import Journals
from ..cli.support.message_lines import event_fields
from ..cli.support.publishers import ask_each
from ..engine.events_api import split_native_id
from ..events.listening.raw_events import RawEvents
from ..exceptions import LightbusException, NotReachable
from ..recurring import RecurringLog
from .forms import event_form

__all__ = ["EventReader", "Item"]

logger = logging.getLogger("lightbus.gateway")

MAX_ITEMS = 1000
MAX_BYTES = 2 * 1024 * 1024
"""Bounds of the latest events kept in memory: a stream that is further behind reads the journals itself."""

READ_EVERY = 2.0
"""Seconds after which the journals are read without a live event, too: a new publisher may have been found."""

READ_AGAIN = 0.5
"""Seconds after which a failed read is repeated."""

LOOK_EVERY = 5.0
"""Seconds after which publishers are asked for new journals."""

PAGES = 20
"""Pages of one journal that are read before those of the others, also if its publisher never comes to an end."""

PAUSE = 0.02
"""Seconds between two reads, so that events that arrive together are read together."""


class Item(NamedTuple):
    """One event: its place (none for best effort), when it was fired, and the data that streams send."""

    journal: str
    sequence: int
    published_at: float
    is_old: bool
    data: bytes


class EventReader:
    """
    The events of one name. Made and used on one event loop.

    Attributes:
        api, event: the name of the events; the event `*` is every event of the API.
        number: how many events were added so far.
        unkept: how many of them were best-effort events.
        places: by journal the sequence up to which all events were read and added.

    """

    def __init__(self, bus: Connection, api: str, event: str) -> None:
        self.api, self.event = api, event
        self.number = 0
        self.unkept = 0
        self.places: dict[str, int] = {}
        self._bus = bus
        self._items: deque[Item] = deque()
        self._size = 0
        self._old: dict[str, int] = {}
        """By journal that was seen after the start: the sequence of its newest event at that time."""
        self._journals = Journals(bus, api=api, event=event, begin=self._begin)
        self._is_begun = False
        self._look_at = 0.0
        self._wake, self._more = asyncio.Event(), asyncio.Event()
        self._failures = RecurringLog(logger)

    def add(self, events: RawEvents) -> None:
        """Take live events (`LiveEvents`): add best-effort ones; for stored ones wake the task that reads journals."""
        if events.api != self.api or self.event not in ("*", events.event):
            return
        if not events.journal:
            for message in events.messages():
                with self._left_out():
                    data = event_form(event_fields(message))
                    self.unkept += 1
                    self._push(Item("", 0, message.published_at, False, data))
            return
        if events.journal not in self.places:
            self._look_at = 0.0
        self._wake.set()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Read the journals in a task while the body runs. Raises NotReachable if no publisher answers."""
        await self._look()
        self.places = self._journals.places()
        self._is_begun = True
        task = asyncio.create_task(self._read_loop())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def since(self, number: int) -> list[Item] | None:
        """Return the events after the first `number`; None if some of them are not in memory any more."""
        missing = self.number - number
        if missing > len(self._items):
            return None
        return [self._items[index] for index in range(len(self._items) - missing, len(self._items))]

    async def wait(self, number: int, seconds: float) -> None:
        """Return when there are more than `number` events, or the time is over."""
        if self.number <= number:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._more.wait()

    async def stored_after(self, places: dict[str, int]) -> AsyncIterator[Item]:
        """
        Read the events stored after these places, up to now; of other journals, all events.

        Raises LightbusException if a publisher does not answer: its events may be missing.
        """
        heads: dict[str, int] = {}

        def begin(journal: str, head: int) -> int:
            heads[journal] = head
            return places.get(journal, 0)

        journals = Journals(self._bus, api=self.api, event=self.event, begin=begin)
        journals.note(await self._known_journals())
        is_behind = True
        while is_behind:
            async for event in journals.events(PAGES):
                if (item := self._item(event, heads)) is not None:
                    yield item
            if journals.failure is not None:
                raise journals.failure
            is_behind = journals.has_more

    def _begin(self, journal: str, head: int) -> int:
        if not self._is_begun:
            return head
        self._old[journal] = head
        return 0

    async def _known_journals(self) -> list[tuple[Any, Any]]:
        peers = self._bus.client.engine.snapshot.publishers(self.api)
        answers = await ask_each(self._bus, list(peers), "journals", quietly=True)
        if peers and not answers:
            raise NotReachable(f"None of the publishers of '{self.api}' answers at the moment.")
        return answers

    async def _look(self) -> None:
        self._journals.note(await self._known_journals())
        self._look_at = time.monotonic() + LOOK_EVERY

    async def _read_loop(self) -> None:
        while True:
            try:
                if time.monotonic() >= self._look_at:
                    await self._look()
                async for event in self._journals.events(PAGES):
                    if (item := self._item(event, self._old)) is not None:
                        self._push(item)
                failure, self._journals.failure = self._journals.failure, None
                if failure is not None:
                    raise failure
                self.places = self._journals.places()
                if self._journals.has_more:
                    self._wake.set()
            except Exception as error:  # the next read goes on where this one stopped
                self._failures.log("read", logging.WARNING, "Events of %s cannot be read: %s", self.api, error)
                await asyncio.sleep(READ_AGAIN)
                continue
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: before Python 3.12 it loses a cancellation that arrives as it is woken.
                async with asyncio.timeout(READ_EVERY):
                    await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(PAUSE)

    def _item(self, event: dict[str, Any], old: dict[str, int]) -> Item | None:
        if event.get("only_group"):
            return None  # a redelivery to one group: streams have had the event before
        with self._left_out():
            journal, sequence = split_native_id(event["native_id"])
            if event["api"] != self.api or self.event not in ("*", event["event"]):
                raise ValueError(f"it is {event['api']}.{event['event']}, which was not asked for")
            is_old = sequence <= old.get(journal, 0)
            return Item(journal, sequence, float(event["published_at"]), is_old, event_form(event))
        return None

    @contextlib.contextmanager
    def _left_out(self) -> Iterator[None]:
        """Log that an event is left out if it is malformed, or nested too deeply for JSON: the others are sent."""
        try:
            yield
        except (LightbusException, KeyError, TypeError, ValueError) as error:
            text = "An event of %s is left out of its streams: %r"
            self._failures.log(type(error), logging.WARNING, text, self.api, error, changes=False)

    def _push(self, item: Item) -> None:
        self._items.append(item)
        self.number += 1
        self._size += len(item.data)
        while len(self._items) > MAX_ITEMS or (self._size > MAX_BYTES and len(self._items) > 1):
            self._size -= len(self._items.popleft().data)
        more, self._more = self._more, asyncio.Event()
        more.set()
