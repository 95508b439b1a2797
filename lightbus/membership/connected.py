"""The engines connected to a worker: the processes that sent HELLO, the messages to them, and the goodbye."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.liveness import Liveness, State
from ..wire import envelope
from ..wire.announcement import Announcement
from ..wire.envelope import AnyMessage, Drain, Goodbye, Hello
from ..wire.sizes import NO_LIMIT, most

__all__ = ["HELLO_EVERY", "ConnectedEngine", "ConnectedEngines"]

HELLO_EVERY = 5.0
"""Seconds between the HELLOs of a connected engine."""

MAX_HELLOS = 20
"""HELLOs of one engine that are answered per second: an answer may be large, and is buffered until it is read."""

TELL_AGAIN_AFTER = 20.0
"""
Seconds after which the known peers are sent again to an engine that knows others, though nothing has changed: it may
have dropped one that it could not reach.
"""

MAX_FORMER = 1024
"""Disconnected engines whose service is remembered: a script may be gone before its call is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedEngine:
    """A process that sent HELLO."""

    instance: str
    service: str
    process: str
    max_message_size: int = 0
    """The largest message, in bytes, that it takes; 0 if unknown."""
    is_worker: bool = False
    """Whether it has announced itself: otherwise it only calls, fires, or listens as a viewer."""

    def __str__(self) -> str:
        return f"{self.service!r:.80} {self.process!r:.80}"  # quoted and cut: the names come from the network


class _Confirmations:
    """The engines whose confirmation is awaited."""

    def __init__(self) -> None:
        self._missing: set[bytes] = set()
        self._complete = asyncio.Event()

    def expect(self, routing_ids: set[bytes]) -> None:
        self._missing = routing_ids
        self._complete.clear()
        self.note(b"")

    def expect_also(self, routing_id: bytes) -> None:
        self._missing.add(routing_id)

    def note(self, routing_id: bytes) -> None:
        self._missing.discard(routing_id)
        if not self._missing:
            self._complete.set()

    async def wait(self, seconds: float) -> set[bytes]:
        """Wait for all confirmations, at most so long; return the engines that have not confirmed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._complete.wait()
        return self._missing


class ConnectedEngines:
    """
    The processes that sent HELLO. Only touched from the node's loop.

    Args:
        send: sends a frame to a routing id; False if its connection is closed.

    """

    def __init__(self, send: Callable[[bytes, bytes], bool]) -> None:
        self._send = send
        self._engines: dict[bytes, ConnectedEngine] = {}
        self._former_services: dict[str, str] = {}
        """The services of disconnected engines by instance, the latest last."""
        self._liveness: Liveness[bytes] = Liveness(suspect_after=3 * HELLO_EVERY, gone_after=6 * HELLO_EVERY)
        self._drain_confirmations = _Confirmations()
        self._goodbye_confirmations = _Confirmations()
        self._draining = False
        self._paces: dict[bytes, tuple[float, int]] = {}
        """By engine: the start of the second in which its HELLOs are counted, and their number."""
        self._told: dict[bytes, tuple[Sequence[Announcement], str, float]] = {}
        """By engine: the peers that it was sent, the digest that it had then, and when that was."""

    def __len__(self) -> int:
        return len(self._engines)

    def __contains__(self, routing_id: bytes) -> bool:
        return routing_id in self._engines

    def service_of(self, instance: str) -> str | None:
        """Return the service that an instance belongs to; None if it has not been connected lately."""
        connected = (engine.service for engine in self._engines.values() if engine.instance == instance)
        return next(connected, self._former_services.get(instance))

    def clients(self) -> Counter[str]:
        """Return how many of the connected processes are not workers, by service."""
        return Counter(engine.service for engine in self._engines.values() if not engine.is_worker)

    def max_message_size_of(self, instance: str) -> int:
        """
        Return the largest message, in bytes, that an instance takes; 0 if unknown, or not connected.

        Thread-safe.
        """
        return next((each.max_message_size for each in list(self._engines.values()) if each.instance == instance), 0)

    def instance_of(self, routing_id: bytes) -> str | None:
        """Return the instance that sent HELLO through a connection; None if there is none."""
        engine = self._engines.get(routing_id)
        return None if engine is None else engine.instance

    def on_hello(self, routing_id: bytes, hello: Hello, now: float) -> bool:
        """Record a HELLO; return whether it was the first of this process."""
        is_new = routing_id not in self._engines
        self._engines[routing_id] = ConnectedEngine(
            instance=hello.instance,
            service=hello.service,
            process=hello.process,
            max_message_size=hello.max_message_size,
            is_worker=hello.announcement is not None,
        )
        self._liveness.record_activity(routing_id, now)
        if is_new and self._draining:
            self._drain_confirmations.expect_also(routing_id)
        return is_new

    def is_flooding(self, routing_id: bytes, now: float) -> bool:
        """Count a HELLO; return whether there were too many of this engine within a second."""
        since, count = self._paces.get(routing_id, (now, 0))
        if now - since > 1.0:
            since, count = now, 0
        self._paces[routing_id] = since, count + 1
        return count >= MAX_HELLOS

    def has_been_told(self, routing_id: bytes, peers: Sequence[Announcement], digest: str, now: float) -> bool:
        """
        Return whether an engine that still has this digest was sent these peers lately.

        Some processes never know the same peers, as those that reach only some of them: a message with a hundred peers
        in answer to each HELLO would cost more than the HELLOs.
        """
        told = self._told.get(routing_id)
        return told is not None and told[:2] == (peers, digest) and now - told[2] < TELL_AGAIN_AFTER

    def note_told(self, routing_id: bytes, peers: Sequence[Announcement], digest: str, now: float) -> None:
        """Record that an engine with this digest was sent these peers."""
        self._told[routing_id] = peers, digest, now

    def tick(self, now: float) -> None:
        """Remove engines that have been silent too long."""
        for change in self._liveness.tick(now):
            if change.state is State.GONE:
                self.forget(change.key)

    def push(self, message: AnyMessage) -> None:
        """
        Send a message to all engines; remove those whose connection is closed.

        One that takes no message of this size is left out: it would close the connection. It hears the news in the
        answer to its next HELLO.
        """
        frame = envelope.encode(message)
        for routing_id, engine in list(self._engines.items()):
            if len(frame) <= most(NO_LIMIT, engine.max_message_size) and not self._send(routing_id, frame):
                self.forget(routing_id)

    async def drain(self, seconds: float) -> list[ConnectedEngine]:
        """Send DRAIN to all engines; return those that have not confirmed it within so many seconds."""
        self._draining = True
        self._drain_confirmations.expect(set(self._engines))
        self.push(Drain())
        return self._named(await self._drain_confirmations.wait(seconds))

    async def part(self, instance: str, seconds: float) -> list[ConnectedEngine]:
        """Send GOODBYE to all engines; return those that have not answered it within so many seconds."""
        self._goodbye_confirmations.expect(set(self._engines))
        self.push(Goodbye(instance))
        return self._named(await self._goodbye_confirmations.wait(seconds))

    def has_drained(self, routing_id: bytes) -> None:
        """Record that an engine confirmed DRAIN: it sends no new requests."""
        self._drain_confirmations.note(routing_id)

    def forget(self, routing_id: bytes) -> None:
        """Remove an engine that is gone, if it is known."""
        if (gone := self._engines.pop(routing_id, None)) is not None:
            self._former_services[gone.instance] = gone.service
            if len(self._former_services) > MAX_FORMER:
                del self._former_services[next(iter(self._former_services))]
        self._liveness.forget(routing_id)
        self._paces.pop(routing_id, None)
        self._told.pop(routing_id, None)
        self._drain_confirmations.note(routing_id)
        self._goodbye_confirmations.note(routing_id)

    def _named(self, routing_ids: set[bytes]) -> list[ConnectedEngine]:
        return [self._engines[routing_id] for routing_id in routing_ids]
