"""Empties the outbox of this host: hands its events off to a publisher as soon as one is up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, Protocol

from ..core.partitions import rendezvous
from ..core.registry import Peer, Snapshot
from ..deadline import Deadline
from ..exceptions import EventNotFound, InvalidArguments, LightbusException, ProtocolError
from ..ports.outbox import EventOutbox, Waiting
from ..recurring import RecurringLog
from ..rpc.calling import Caller
from ..rpc.request import OutboundBatch, OutboundEvent, RequestContext
from ..wire.sizes import RECORD_OVERHEAD

__all__ = ["Forwarder", "refusals"]

logger = logging.getLogger("lightbus.outbox")

LOOK_EVERY = 3.0
"""Seconds between two checks of the outbox, plus or minus a third at random."""

SECONDS = 5.0
"""Seconds within which a publisher must accept events; otherwise they stay in the outbox."""

MOST_AT_ONCE = 500
"""Events read from the outbox in one query; also the most that are handed off together."""


class Forwarding(RequestContext, Protocol):
    """What the forwarder uses of the engine."""

    @property
    def executor(self) -> Executor:
        """The threads that wait for the disk."""

    def caller(self) -> Caller:
        """Return the channel of the running loop."""


class Forwarder:
    """
    Hands off the events of the outbox. Made and stopped on the node's loop.

    Every process of the bus does this for all events in the outbox of its host.

    Args:
        engine: the owner of the channels.
        outbox: the outbox of this host.

    """

    def __init__(self, engine: Forwarding, outbox: EventOutbox) -> None:
        self._engine = engine
        self._outbox = outbox
        self._failures = RecurringLog(logger)
        self._reasons: dict[str, str] = {}
        """By API: why its publishers do not accept its events."""
        self._empty_state: object = None
        """The state of the outbox when it was last empty: while it is unchanged, the outbox is empty."""
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._timer: asyncio.Handle = self._loop.call_soon(self._look)

    def stop(self) -> None:
        """Stop; waiting events stay in the outbox."""
        self._stopped = True
        self._timer.cancel()
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                self._task.cancel()

    @property
    def problems(self) -> list[str]:
        """A sentence for each API whose publishers have not accepted its events lately."""
        return [
            f"Events of {api} are still waiting in the outbox {self._outbox.path}: {why}"
            for api, why in sorted(self._reasons.items())
        ]

    def peers_changed(self) -> None:
        """Check the outbox at once: there may be a publisher for its events now."""
        if not self._stopped:
            self._timer.cancel()
            self._look()

    def _look(self) -> None:
        # The outbox is usually empty: so there is a timer, and a task only when there is something to do.
        self._timer = self._loop.call_later(LOOK_EVERY * random.uniform(0.67, 1.33), self._look)
        if self._task is None and self._outbox.state() != self._empty_state:
            self._task = self._loop.create_task(self._forward())

    async def _forward(self) -> None:
        try:
            await self._empty()
        except LightbusException as error:
            text = "The events in the outbox %s cannot be handed off now: %s"
            self._failures.log("outbox", logging.WARNING, text, self._outbox.path, error)
        else:
            self._failures.recovered("outbox")
        finally:
            self._task = None

    async def _empty(self) -> None:
        loop, executor = asyncio.get_running_loop(), self._engine.executor
        state = self._outbox.state()  # before it is read: an event may be put into it meanwhile
        apis = await loop.run_in_executor(executor, self._outbox.counts)
        for api in self._reasons.keys() - apis.keys():
            del self._reasons[api]
        if not apis:
            self._empty_state = state
            return
        self._engine.wanted.update(apis)
        stuck: set[str] = set()
        with self._outbox.hold() as is_ours:
            while is_ours() and (published := self._published(apis, stuck)):
                waiting = await loop.run_in_executor(executor, self._outbox.waiting, published, MOST_AT_ONCE)
                if not waiting:
                    return
                await self._hand_off(waiting, published, stuck)

    def _published(self, apis: dict[str, int], stuck: set[str]) -> dict[str, str]:
        """Return those of these APIs that have a publisher, each with a digest of its definition at all publishers."""
        snapshot: Snapshot = self._engine.snapshot
        return {
            api: ",".join(sorted({_digest(peer, api) for peer in snapshot.by_api[api]}))
            for api in apis
            if api in snapshot.by_api and api not in stuck
        }

    async def _hand_off(self, waiting: list[Waiting], published: dict[str, str], stuck: set[str]) -> None:
        """
        Hand off events in order, consecutive ones of one name together.

        If an event is not accepted now, later events of its API wait, too. An event that is refused as invalid, because
        its API has changed, is marked as refused: it blocks no others, and is tried again when the API changes again.
        """
        done: list[str] = []
        refused: list[tuple[Waiting, LightbusException]] = []
        for events in self._together(waiting):
            api = events[0].api
            if api in stuck:
                continue
            try:
                found = await self._request(events)
            except LightbusException as error:
                stuck.add(api)
                self._reasons[api] = str(error)
                text = "The events of %s are still waiting in the outbox: %s"
                self._failures.log(api, logging.INFO, text, api, error)
            else:
                self._reasons.pop(api, None)
                refused += found
                done += {event.id for event in events}.difference(event.id for event, _ in found)
        loop, executor = asyncio.get_running_loop(), self._engine.executor
        if done:
            await loop.run_in_executor(executor, self._outbox.delivered, done)
            logger.info("%d events that waited in the outbox were handed off", len(done))
        if refused:
            notes = [(event.id, published[event.api], str(error)) for event, error in refused]
            await loop.run_in_executor(executor, self._outbox.refuse, notes)
            self._warn([each for each in refused if each[0].refused != published[each[0].api]])

    def _together(self, waiting: list[Waiting]) -> Iterator[list[Waiting]]:
        """Yield lists of events to hand off together: of one name, for one publisher, within the size limit."""
        limit = self._engine.max_message_size // 2
        together: list[Waiting] = []
        place, size = None, 0
        for event in waiting:
            peers = [peer.instance for peer in self._engine.snapshot.by_api.get(event.api, ())]
            to = None if event.key is None or len(peers) == 1 else rendezvous(event.key, peers)
            more = len(event.record) + len(event.key or "") + RECORD_OVERHEAD
            if together and ((event.api, event.event, to) != place or size + more > limit):
                yield together
                together, size = [], 0
            place = event.api, event.event, to
            together.append(event)
            size += more
        if together:
            yield together

    async def _request(self, events: list[Waiting]) -> list[tuple[Waiting, LightbusException]]:
        """Hand off events; return those that were refused as invalid, with the errors. Raises other errors."""
        first, deadline = events[0], Deadline.after(SECONDS)
        if len(events) == 1:
            outgoing = OutboundEvent(self._engine, first.api, first.event, deadline, first.record, first.key)
        else:
            rows: list[list[Any]] = [[event.key, event.record] for event in events]
            outgoing = OutboundBatch(self._engine, first.api, first.event, deadline, rows, first.key)
        try:
            await self._engine.caller().request(outgoing)
        except (InvalidArguments, EventNotFound, ProtocolError) as error:
            if len(events) == 1:
                return [(first, error)]
        else:
            return []
        return [refused for event in events for refused in await self._request([event])]

    def _warn(self, refused: list[tuple[Waiting, LightbusException]]) -> None:
        """Log events that were refused for the first time, once per event name."""
        by_name: dict[str, list[tuple[Waiting, LightbusException]]] = defaultdict(list)
        for event, error in refused:
            by_name[f"{event.api}.{event.event}"].append((event, error))
        for name, found in by_name.items():
            event, error = found[0]
            others = f" (and {len(found) - 1} others of this name)" if len(found) > 1 else ""
            logger.warning(
                "The event %s of %s%s was refused by its publisher, and is kept in the outbox %s: %s %s",
                event.id, name, others, self._outbox.path, error, _remedy(event.api),
            )  # fmt: skip


def refusals(outbox: EventOutbox, host: str) -> list[str]:
    """Return a sentence about each event name with events in the outbox that its publishers refuse."""
    if not outbox.exists():
        return []
    return [
        f"{each.number} events of {each.api}.{each.event} are kept in the outbox {outbox.path} on {host}, since their "
        f"publisher does not accept them: {each.error} {_remedy(each.api)}"
        for each in outbox.refused()
    ]


def _remedy(api: str) -> str:
    return (
        f"It is tried again once the API '{api}' changes: have it declare the event, and give new parameters a default."
    )


def _digest(peer: Peer, api: str) -> str:
    return next((info.digest for info in peer.announcement.apis or () if info.name == api), "")
