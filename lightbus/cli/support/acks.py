"""The groups that have handled an event: polls its publisher, at growing intervals, until all groups have."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...exceptions import LightbusException
from ...message import EventMessage
from .connection import ASK_TIMEOUT, Connection, passes

__all__ = ["AckFollower", "GroupAck"]

LOOK_EVERY = 0.1
FIRST_PAUSE = 0.2
LAST_PAUSE = 10.0
"""Seconds between two requests about an event, doubled from the first to the last: a group may be down for long."""

MAX_PENDING = 1000
"""The most events that are followed; the oldest are dropped first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAck:
    """
    A group has acknowledged an event, or made it a dead letter.

    Attributes:
        message: the event.
        group: the group.
        status: `acked`, or `dead` for a dead letter.
        at: when this process learned of it, in seconds since 1970.

    """

    message: EventMessage
    group: str
    status: str
    at: float

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        message = self.message
        return {
            "id": message.id,
            "native_id": message.native_id,
            "api": message.api_name,
            "event": message.event_name,
            "group": self.group,
            "status": self.status,
            "at": self.at,
        }


@dataclass(slots=True)
class _Pending:
    """An event that, as far as known, not all groups have handled."""

    message: EventMessage
    due: float
    pause: float
    reported: set[str] = field(default_factory=set)


class AckFollower:
    """Polls publishers about events, and calls `on_ack` with each acknowledgement."""

    def __init__(self, bus: Connection, on_ack: Callable[[GroupAck], None]) -> None:
        self._bus = bus
        self._on_ack = on_ack
        self._pending: dict[str, _Pending] = {}
        self._settled = asyncio.Event()
        self._settled.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def add(self, message: EventMessage) -> None:
        """Follow an event from now on, except a best-effort event, which is neither stored nor acknowledged."""
        if message.native_id:
            self._settled.clear()
            self._pending[message.native_id] = _Pending(message, time.monotonic() + FIRST_PAUSE / 2, FIRST_PAUSE)
            if len(self._pending) > MAX_PENDING:
                del self._pending[next(iter(self._pending))]

    async def settle(self, seconds: float) -> None:
        """Return when nothing is pending any more, after so many seconds at the latest."""
        await passes(self._settled, seconds)

    async def end(self) -> None:
        """Stop polling."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = time.monotonic()
            due: defaultdict[str, list[str]] = defaultdict(list)
            for native_id, pending in self._pending.items():
                if now >= pending.due:
                    for publisher in self._asked_about(pending.message):
                        due[publisher].append(native_id)
                    pending.pause = min(2 * pending.pause, LAST_PAUSE)
                    pending.due = now + pending.pause
            await asyncio.gather(*(self._ask(publisher, native_ids) for publisher, native_ids in due.items()))

    def _asked_about(self, message: EventMessage) -> list[str]:
        """Return the peers to ask: the publisher, or for an event in a backend, all publishers of its API."""
        if message.publisher:
            return [message.publisher]
        return [peer.instance for peer in self._bus.client.engine.snapshot.publishers(message.api_name)]

    async def _ask(self, publisher: str, native_ids: list[str]) -> None:
        options = {"peer": publisher, "timeout": ASK_TIMEOUT}
        question = {"native_ids": native_ids}
        try:
            statuses = await self._bus.client.call_rpc_remote("internal.events", "handled", question, options)
        except LightbusException:
            return  # busy, or gone: then the state is unknown until its journal is served again
        for native_id in native_ids:
            pending = self._pending.get(native_id)
            if pending is not None and (native_id in statuses or pending.message.publisher):
                self._take(pending, statuses.get(native_id, {}))

    def _take(self, pending: _Pending, groups: dict[str, str]) -> None:
        done = {group for group, status in groups.items() if status != "waiting"}
        for group in sorted(done - pending.reported):
            self._on_ack(GroupAck(message=pending.message, group=group, status=groups[group], at=time.time()))
        pending.reported |= done
        if len(done) == len(groups):
            del self._pending[pending.message.native_id]
            if not self._pending:
                self._settled.set()
