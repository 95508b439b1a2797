"""Observe a bus in memory, for tests that wait: which events were fired, and whether all are handled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ..client import BusClient
from ..engine.events_api import EventsApi
from ..exceptions import LightbusTimeout
from ..message import EventMessage
from ..path import BusPath
from ..utilities.async_tools import block

__all__ = ["Observer"]

LOOK_EVERY = 0.005

Condition = Callable[[], Any]


class Observer:
    """
    Watches the buses of a test.

    Args:
        clients: returns the clients on the bus.

    """

    def __init__(self, clients: Callable[[], Iterable[BusClient]]) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._fired: list[EventMessage] = []

    def watch(self, client: BusClient) -> None:
        """Record the events that a client fires."""
        client.hooks.add("after_event_sent", self._note)

    def leave(self, client: BusClient) -> None:
        """Stop recording the events of a client."""
        client.hooks.remove("after_event_sent", self._note)

    def _note(self, event_message: EventMessage) -> None:
        with self._lock:
            self._fired.append(event_message)

    def fired(self, event: BusPath | str) -> list[EventMessage]:
        """Return the fired events of a name, in order."""
        name = event if isinstance(event, str) else event.fully_qualified_name
        with self._lock:
            return [message for message in self._fired if message.canonical_name == name]

    # Waiting

    def event(self, event: BusPath | str, number: int, timeout: float) -> EventMessage:
        """Return the event of a name with this number, counted from 1, once it was fired. Raises LightbusTimeout."""
        _wait(lambda: len(self.fired(event)) >= number, timeout, lambda: self._missing(event, number))
        return self.fired(event)[number - 1]

    async def event_async(self, event: BusPath | str, number: int, timeout: float) -> EventMessage:
        """Return, on an event loop, the event of a name with a number, once it was fired."""
        await _wait_async(lambda: len(self.fired(event)) >= number, timeout, lambda: self._missing(event, number))
        return self.fired(event)[number - 1]

    def _missing(self, event: BusPath | str, number: int) -> str:
        with self._lock:
            names = ", ".join(sorted({message.canonical_name for message in self._fired})) or "nothing"
        return f"{event} was fired {len(self.fired(event))} times, and not {number}. Fired: {names}"

    def all_handled(self, timeout: float) -> None:
        """Return when every listener has handled all fired events, retries included. Raises LightbusTimeout."""
        deadline = time.monotonic() + timeout
        while left := block(self._unhandled_twice()):
            if time.monotonic() > deadline:
                raise LightbusTimeout(f"After {timeout} s these have not handled everything: {', '.join(left)}")
            time.sleep(LOOK_EVERY)

    async def all_handled_async(self, timeout: float) -> None:
        """Return, on an event loop, when every listener has handled all fired events, retries included."""
        deadline = time.monotonic() + timeout
        while left := await self._unhandled_twice():
            if time.monotonic() > deadline:
                raise LightbusTimeout(f"After {timeout} s these have not handled everything: {', '.join(left)}")
            await asyncio.sleep(LOOK_EVERY)

    async def _unhandled_twice(self) -> list[str]:
        """Check twice if nothing is left: a handler may have fired an event for another listener meanwhile."""
        before = len(self._fired)
        left = await self._unhandled() or await self._unhandled()
        return left or ([] if len(self._fired) == before else ["what was fired just now"])

    async def _unhandled(self) -> list[str]:
        left: set[str] = set()
        for client in self._clients():
            worker = client.worker
            if worker is None or worker.parts is None:
                continue
            for runner in list(worker.parts.consumer.runners):
                if runner.queue.backlog and runner.stopped_by is None:
                    left.add(f"{runner.listener.name} ({runner.queue.backlog} wait)")
            api = next(each for each in worker.parts.internal_apis if isinstance(each, EventsApi))
            asking = asyncio.run_coroutine_threadsafe(api.groups(), worker.loop)
            groups = await asyncio.wrap_future(asking)
            left |= {f"{group['name']} ({group['lag']} left)" for group in groups if group["lag"]}
        return sorted(left)


def _wait(condition: Condition, timeout: float, why_not: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LightbusTimeout(f"Within {timeout} s: {why_not()}")
        time.sleep(LOOK_EVERY)


async def _wait_async(condition: Condition, timeout: float, why_not: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LightbusTimeout(f"Within {timeout} s: {why_not()}")
        await asyncio.sleep(LOOK_EVERY)
