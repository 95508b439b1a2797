"""Firing many events of one name together: a list as a whole or not at all, a generator in portions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from ..blocking import forbid_in_loop
from ..config import ApiSettings
from ..core.partitions import rendezvous
from ..deadline import Deadline
from ..engine.engine import Engine
from ..events.backend_places import AnyPlace, newest_places
from ..events.event_publisher import LATE_TIMEOUT, EventPublisher
from ..events.event_record import key_of, record_of
from ..exceptions import (
    InvalidArguments,
    InvalidEventArguments,
    JournalError,
    LightbusException,
    LightbusTimeout,
    NotReachable,
)
from ..interrupts import interruptible
from ..message import EventMessage
from ..rpc.request import OutboundBatch
from ..service.api import Event
from ..typing import BusOptions, Kwargs
from ..wire.sizes import RECORD_OVERHEAD
from .batch_rows import not_arguments, note_number, rows_of
from .engine_holder import EngineHolder
from .firing import Firing, not_handled, trace_of
from .hook_runner import HookRunner
from .outbox import UnpublishedEvents

__all__ = ["MOST_TOGETHER", "PORTION", "FiringMany"]

_PreparedEvent: TypeAlias = tuple[EventMessage, str | None, bytes]
"""An event, its key, and its record."""

_Terms: TypeAlias = tuple[Event | None, EventPublisher | None, ApiSettings, Deadline, str]

MOST_TOGETHER = 10_000
"""The most events of a list: one commit stores them, and the publisher's event loop waits for it."""

PORTION = 1000
"""Events of a generator that one commit stores, before the next ones are taken from the generator."""


class _Portion(NamedTuple):
    """
    Events that are stored together.

    Attributes:
        is_whole: whether these are all events of the call, which must not be split into several batches.

    """

    engine: Engine
    event: Event | None
    publisher: EventPublisher | None
    messages: list[EventMessage]
    deadline: Deadline
    wait_for: str
    is_whole: bool


class FiringMany:
    """
    The part of a client that fires many events together.

    Args:
        firing: makes the events, and knows their publisher, settings and deadline.
        engines: has the channels for handing them off.
        hooks: run around each event.
        unpublished: stores events that have no publisher.

    """

    def __init__(
        self, firing: Firing, engines: EngineHolder, hooks: HookRunner, unpublished: UnpublishedEvents
    ) -> None:
        self._firing = firing
        self._engines = engines
        self._hooks = hooks
        self._unpublished = unpublished

    def fire_blocking(
        self, api_name: str, name: str, events: Iterable[Kwargs], options: BusOptions | None = None
    ) -> list[str]:
        """Fire events and return their ids. Raises what `BusPath.fire_many` raises."""
        forbid_in_loop(f"bus.{api_name}.{name}.fire_many()", f"bus.{api_name}.{name}.fire_many_async()")
        is_whole, ids = isinstance(events, Collection), list[str]()
        with _noting_fired(ids):
            for portion in _portions(f"{api_name}.{name}", events):
                ids += self._fire_portion_blocking(api_name, name, portion, options, is_whole=is_whole)
        return ids

    async def fire(
        self,
        api_name: str,
        name: str,
        events: Iterable[Kwargs] | AsyncIterable[Kwargs],
        options: BusOptions | None = None,
    ) -> list[str]:
        """Fire many events on an event loop; `events` may be asynchronous."""
        is_whole, ids = isinstance(events, Collection), list[str]()
        with _noting_fired(ids):
            async for portion in _portions_async(f"{api_name}.{name}", events):
                ids += await self._fire_portion(api_name, name, portion, options, is_whole=is_whole)
                await asyncio.sleep(0)  # publish the stored events before making the next ones
        return ids

    def _fire_portion_blocking(
        self, api_name: str, name: str, events: Sequence[Kwargs], options: BusOptions | None, *, is_whole: bool
    ) -> list[str]:
        engine = self._engines.engine
        terms = event, publisher, settings, deadline, wait_for = self._firing.resolve(engine, api_name, name, options)
        if event is not None and publisher is not None and not self._hooks.is_about("event_sent"):
            ids, stored = self._publish(engine, publisher, event, api_name, events, settings, options)
            _wait_for_groups(publisher, _wait_for_places(stored), wait_for, deadline, f"{api_name}.{name}")
            return ids
        unreachable = None if event is not None else self._firing.look_up_blocking(engine, api_name, name, deadline)
        portion = self._portion(engine, terms, api_name, name, events, options, is_whole=is_whole)
        hooked = portion.messages if self._hooks.is_about("event_sent") else []
        with self._around(hooked):
            for message in hooked:
                given = message.kwargs
                self._hooks.run_blocking("before_event_sent", event_message=message)
                self._firing.check_replaced(event, message, given, settings)
            self._store_blocking(portion, unreachable)
            for message in hooked:
                self._hooks.run_blocking("after_event_sent", event_message=message)
        return [message.id for message in portion.messages]

    def fire_made_blocking(self, messages: Sequence[EventMessage]) -> None:
        """
        Fire events of one name that were made earlier, in their order and with their ids, without running hooks.

        Raises what `BusPath.fire_many` raises.
        """
        engine, api_name, name = self._engines.engine, messages[0].api_name, messages[0].event_name
        event, publisher, _, deadline, wait_for = self._firing.resolve(engine, api_name, name, None)
        unreachable = None
        if event is None:
            unreachable = self._firing.look_up_blocking(engine, api_name, name, deadline, with_schema=False)
        made = _Portion(engine, event, publisher, [*messages], deadline, wait_for, is_whole=False)
        self._store_blocking(made, unreachable)

    def _store_blocking(self, portion: _Portion, unreachable: NotReachable | None) -> None:
        if portion.publisher is not None and portion.event is not None:
            places = _wait_for_places(portion.publisher.batches.publish(portion.messages, portion.event))
            what = portion.messages[0].canonical_name
            _wait_for_groups(portion.publisher, places, portion.wait_for, portion.deadline, what)
        else:
            self._hand_off_blocking(portion, unreachable)

    async def _fire_portion(
        self, api_name: str, name: str, events: Sequence[Kwargs], options: BusOptions | None, *, is_whole: bool
    ) -> list[str]:
        engine = self._engines.engine
        terms = event, publisher, settings, deadline, wait_for = self._firing.resolve(engine, api_name, name, options)
        if event is not None and publisher is not None and not self._hooks.is_about("event_sent"):
            ids, stored = self._publish(engine, publisher, event, api_name, events, settings, options)
            await _wait_for_events(publisher, stored, wait_for, deadline, f"{api_name}.{name}")
            return ids
        unreachable = None if event is not None else await self._firing.look_up(engine, api_name, name, deadline)
        portion = self._portion(engine, terms, api_name, name, events, options, is_whole=is_whole)
        hooked = portion.messages if self._hooks.is_about("event_sent") else []
        with self._around(hooked):
            for message in hooked:
                given = message.kwargs
                await self._hooks.run("before_event_sent", event_message=message)
                self._firing.check_replaced(event, message, given, settings)
            if portion.publisher is not None and portion.event is not None:
                stored = portion.publisher.batches.publish(portion.messages, portion.event)
                await _wait_for_events(portion.publisher, stored, wait_for, deadline, f"{api_name}.{name}")
            else:
                await self._hand_off(portion, unreachable)
            for message in hooked:
                await self._hooks.run("after_event_sent", event_message=message)
        return [message.id for message in portion.messages]

    def _publish(
        self,
        engine: Engine,
        publisher: EventPublisher,
        event: Event,
        api_name: str,
        events: Sequence[Kwargs],
        settings: ApiSettings,
        options: BusOptions | None,
    ) -> tuple[list[str], Future[list[AnyPlace]]]:
        """Publish events in this process without hooks; return their ids, and the future of their places."""
        ids, rows = rows_of(engine, api_name, event, events, settings, trace_of(options))
        return ids, publisher.batches.publish_rows(api_name, event, rows, ids)

    @contextlib.contextmanager
    def _around(self, messages: Sequence[EventMessage]) -> Iterator[None]:
        """Run the body inside the `around_event_sent` hooks of each event."""
        with contextlib.ExitStack() as stack:
            for message in messages:
                stack.enter_context(self._hooks.around("around_event_sent", event_message=message))
            yield

    def _portion(
        self,
        engine: Engine,
        terms: _Terms,
        api_name: str,
        name: str,
        events: Sequence[Kwargs],
        options: BusOptions | None,
        *,
        is_whole: bool,
    ) -> _Portion:
        """Make the events. Raises the error of the first invalid event: then none is fired."""
        event, publisher, settings, deadline, wait_for = terms
        messages = []
        for number, kwargs in enumerate(events):
            if type(kwargs) is not dict and not isinstance(kwargs, Mapping):
                raise not_arguments(f"{api_name}.{name}", kwargs)
            try:
                messages.append(self._firing.new_event(engine, event, api_name, name, {**kwargs}, settings, options))
            except LightbusException as error:
                note_number(error, number, len(events))
                raise
        return _Portion(engine, event, publisher, messages, deadline, wait_for, is_whole)

    # By hand-off

    def _hand_off_blocking(self, portion: _Portion, unreachable: NotReachable | None) -> None:
        for messages, outgoing in self._outgoing(portion):
            try:
                if unreachable is not None:
                    raise unreachable
                accepted = self._engines.channel.request(outgoing)
            except NotReachable as error:
                self._unpublished.keep_all(messages, portion.event, portion.wait_for, error)
            except InvalidArguments:
                self._firing.schemas.learn_of_refusal_blocking(outgoing.api, portion.deadline)
                raise
            else:
                self._taken(messages, accepted.publisher)

    async def _hand_off(self, portion: _Portion, unreachable: NotReachable | None) -> None:
        for messages, outgoing in self._outgoing(portion):
            try:
                if unreachable is not None:
                    raise unreachable
                accepted = await portion.engine.caller().request(outgoing)
            except NotReachable as error:
                keep = self._unpublished.keep_all
                await asyncio.to_thread(keep, messages, portion.event, portion.wait_for, error)
            except InvalidArguments:
                await self._firing.schemas.learn_of_refusal(outgoing.api, portion.deadline)
                raise
            else:
                self._taken(messages, accepted.publisher)

    def _taken(self, messages: Sequence[EventMessage], publisher: str) -> None:
        for message in messages:
            message.publisher = publisher
        self._unpublished.note_seen(messages[0])

    def _outgoing(self, portion: _Portion) -> Iterator[tuple[list[EventMessage], OutboundBatch]]:
        """
        Yield the batches to hand off, each with its events.

        The events of one key go to one publisher, as if they were fired one by one; so where there are several
        publishers, each gets its share.
        """
        engine, limit = portion.engine, portion.engine.max_message_size // 2
        api_name, name = portion.messages[0].api_name, portion.messages[0].event_name
        peers = [peer.instance for peer in engine.snapshot.by_api.get(api_name, ())]
        shares: dict[str | None, list[_PreparedEvent]] = {}
        for message in portion.messages:
            key = key_of(portion.event, message.kwargs)
            target = None if key is None or len(peers) == 1 else rendezvous(key, peers)
            shares.setdefault(target, []).append((message, key, record_of(message)))
        for share in shares.values():
            for rows in [share] if portion.is_whole else _split(share, limit):
                outgoing = OutboundBatch(
                    engine, api_name, name, portion.deadline, [[key, record] for _, key, record in rows],
                    rows[0][1], portion.wait_for,
                )  # fmt: skip
                yield [message for message, *_ in rows], outgoing


def _split(rows: list[_PreparedEvent], limit: int) -> Iterator[list[_PreparedEvent]]:
    """Split rows into batches whose messages are within the size limit."""
    taken: list[_PreparedEvent] = []
    size = 0
    for row in rows:
        more = len(row[2]) + len(row[1] or "") + RECORD_OVERHEAD
        if taken and size + more > limit:
            yield taken
            taken, size = [], 0
        taken.append(row)
        size += more
    yield taken


def _wait_for_places(stored: Future[list[AnyPlace]]) -> list[AnyPlace]:
    try:
        return interruptible(stored.result, LATE_TIMEOUT)
    except TimeoutError:
        raise _not_stored() from None


async def _wait_for_events(
    publisher: EventPublisher, stored: Future[list[AnyPlace]], wait_for: str, deadline: Deadline, what: str
) -> None:
    """Return, on an event loop, once the events are on disk and, for `wait_for` "ack", handled by every group."""
    if stored.done():
        places = stored.result()
    else:
        try:
            async with asyncio.timeout(LATE_TIMEOUT):  # `wait_for` may forget a cancellation, before Python 3.12
                places = await asyncio.wrap_future(stored)
        except TimeoutError:
            raise _not_stored() from None
    if wait_for == "ack" and places:
        await asyncio.to_thread(_wait_for_groups, publisher, places, wait_for, deadline, what)


def _not_stored() -> JournalError:
    return JournalError("The journal did not store the events: its worker is stopping.")


def _wait_for_groups(
    publisher: EventPublisher, places: list[AnyPlace], wait_for: str, deadline: Deadline, what: str
) -> None:
    """Return once every group has handled the events, if `wait_for` is "ack". Raises LightbusTimeout."""
    if wait_for != "ack":
        return
    seconds = deadline.left()
    waiting = [publisher.handled_by_all(place, seconds) for place in newest_places(places)]
    try:
        for each in waiting:
            interruptible(each.result, deadline.left())
    except LightbusTimeout:
        raise
    except TimeoutError:
        raise not_handled(what, seconds) from None


def _portions(what: str, events: Any) -> Iterator[Sequence[Kwargs]]:
    """Yield the batches to store: a collection as a whole, otherwise a bounded number at a time."""
    if isinstance(events, (str, bytes, Mapping)) or not isinstance(events, Iterable):
        raise not_arguments(what, events)
    if isinstance(events, Collection):
        if len(events) > MOST_TOGETHER:
            raise InvalidEventArguments(
                f"{what}.fire_many() was given {len(events)} events. At most {MOST_TOGETHER} are stored by one commit: "
                f"give it a generator, whose events are stored {PORTION} at a time."
            )
        if events:
            yield list(events)
        return
    iterator = iter(events)
    while True:
        taken: list[Kwargs] = []
        with _noting_unfired(taken):
            taken.extend(islice(iterator, PORTION))
        if not taken:
            return
        yield taken


async def _portions_async(what: str, events: Any) -> AsyncIterator[Sequence[Kwargs]]:
    if not isinstance(events, AsyncIterable):
        for portion in _portions(what, events):
            yield portion
        return
    taken: list[Kwargs] = []
    with _noting_unfired(taken):
        async for kwargs in events:
            taken.append(kwargs)
            if len(taken) == PORTION:
                yield taken[:]
                taken.clear()
    if taken:
        yield taken


@contextlib.contextmanager
def _noting_fired(fired: list[str]) -> Iterator[None]:
    """Add a note to an error that says how many earlier events of a generator were fired."""
    try:
        yield
    except Exception as error:
        if fired:
            error.add_note(f"{len(fired)} events before were fired; the last one is {fired[-1]}.")
        raise


@contextlib.contextmanager
def _noting_unfired(taken: list[Kwargs]) -> Iterator[None]:
    """Add a note to a generator's own error that says how many of its last events were therefore not fired."""
    try:
        yield
    except Exception as error:
        error.add_note(
            f"It ended the generator given to fire_many(): the last {len(taken)} events it yielded were not fired."
        )
        raise
