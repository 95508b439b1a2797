"""
Damages valid messages and gives them to the decoders and to the handlers of a worker and of a listener.

Whatever the bytes are, a decoder gives a value or ProtocolError, and a handler raises nothing: neither out of itself
nor into its last guard, which is there for what nobody thought of. And what it says by that to others can be read: what
a stranger told of a group, say, is told to the members of that. A seed repeats a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgpack

from helpers.publishing import Hub, Listens, Publishes
from lightbus.adapters.host.places import Places
from lightbus.adapters.zmq.security import HostSecurity
from lightbus.adapters.zmq.transport import ZmqTransport
from lightbus.config import Config
from lightbus.engine.binding import Binding, Handlers
from lightbus.engine.threads import HandlerThreads
from lightbus.exceptions import DeformError, ProtocolError
from lightbus.membership.introductions import NodeView
from lightbus.rpc.server import Server
from lightbus.service.api import Api, Event
from lightbus.service.hooks import HookRegistry
from lightbus.wire import codec, envelope
from lightbus.wire.announcement import Announcement
from lightbus.wire.envelope import Kind

from .messages import API, IDS, any_message, any_value

__all__ = ["CORPUS", "Found", "fuzz", "replay"]

CORPUS = Path(__file__).parent / "corpus"
"""Inputs that found something once, a file each: they are tried first."""

HEAD = 10
KINDS = [*Kind]
PER_WORKER = 20_000
"""Inputs that one worker is given, before it is made anew: what it keeps is bounded, and so is what a run takes."""

HOSTILE: list[Any] = [
    None, True, False, -1, 0, 1, 16, 2**31, 2**62, 2**63, 2**64 - 1, 2**70, 1.5, float("nan"), float("inf"), -1e300,
    "", "*", "\0", "a" * 600, "$", "0", b"", b"\xff" * 17, [], {}, [[]], [None], {1: 2}, {"a": []},
]  # fmt: skip


@dataclass
class Found:
    """The findings of a run."""

    inputs: int = 0
    faults: list[tuple[bytes, str]] = field(default_factory=list)
    seconds: float = 0.0


class Auth(Api):
    """The API of the worker under test."""

    seen = Event(["n"])
    gone = Event(["n"])

    class Meta:
        name = API

    async def check(self, n: int = 0) -> int:
        """Return the argument."""
        return n


def damaged(random: Random) -> Iterator[bytes]:
    """Yield messages that are damaged, or only unlikely, without end."""
    while True:
        kind = random.choice(KINDS)
        values = [*any_message(random, kind)]
        yield _frame(random, kind, values)
        for _ in range(4 if values else 1):
            yield _damage_bytes(random, _frame(random, kind, values))
            if values:
                _damage_value(random, values)
                yield _frame(random, kind, values)


def _frame(random: Random, kind: Kind, values: list[Any]) -> bytes:
    return bytes([kind, 1]) + random.getrandbits(64).to_bytes(8, "big") + _packed(random, values)


def _packed(random: Random, values: list[Any]) -> bytes:
    try:
        return codec.encode(values)
    except DeformError:
        return bytes(msgpack.packb([None] * len(values)))


def _damage_value(random: Random, values: Any) -> None:
    """Replace something within a value, however deep."""
    for _ in range(random.randrange(1, 3)):
        place = values
        while True:
            keys = [*place] if isinstance(place, dict) else [*range(len(place))]
            if not keys:
                break
            key = random.choice(keys)
            if isinstance(place[key], (list, dict)) and place[key] and random.random() < 0.7:
                place = place[key]
                continue
            place[key] = any_value(random) if random.random() < 0.3 else random.choice(HOSTILE)
            break


def _damage_bytes(random: Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(data)) if data else 0
        way = random.randrange(4)
        if way == 0 and data:
            data[at] = random.randrange(256)
        elif way == 1:
            data[at:at] = random.choice([b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc7\x01\x06", b"\x81\xc0", b"\x90" * 9])
        elif way == 2:
            del data[at : at + random.randrange(1, 9)]
        elif data:
            data[at:] = struct.pack(">Q", random.getrandbits(64))[: random.randrange(9)]
    return bytes(data)


class Said:
    """Checks that messages of the tested parts can be read by their receivers."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Check all messages that are encoded in this context."""
        pairs: dict[str, Callable[[bytes], object]] = {
            "encode": envelope.decode,
            "encode_published": envelope.decode_published,
        }
        originals = {name: getattr(envelope, name) for name in pairs}
        for name, read in pairs.items():
            setattr(envelope, name, partial(self._encoded, originals[name], read))
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(envelope, name, original)

    def _encoded(self, encode: Callable[..., bytes], read: Callable[[bytes], object], *what: Any) -> bytes:
        frame = encode(*what)
        try:
            read(frame)
        except ProtocolError as error:
            self.faults.append(f"led to a message that nobody can read: {error!s:.200}")
        return frame


class Worker:
    """A worker and a listener without sockets between them, which get the given bytes."""

    def __init__(self, directory: Path, executor: HandlerThreads) -> None:
        self.hub = Hub()
        self.publisher: Publishes = self.hub.publish(IDS[0], directory / "journals", Auth())
        self.listens = Listens(self.hub, IDS[1])
        self.transport = ZmqTransport(HostSecurity(places=Places.only(directory)))
        me = self.publisher.identity
        announcement = Announcement(bus="b", instance=me.instance, service="s", process="p", host="h", apis=())
        view = NodeView(
            announcement=lambda: announcement,
            peers_digest=lambda: "",
            verified=list,
            known=lambda instance: announcement,
            claimed=lambda other: None,
        )
        server = Server(
            identity=me, config=Config(), apis=self.publisher.apis, hooks=HookRegistry(), client=None,
            executor=executor, reply=lambda routing_id, frame: True, reply_from_thread=lambda routing_id, frame: True,
        )  # fmt: skip
        publisher = self.publisher.publisher
        coordinator = self.publisher.coordinator
        handlers = Handlers(server=server, publisher=publisher, coordinator=coordinator, outgoing=publisher)
        self.binding = Binding(me, self.transport, self.transport.addressing(), view, lambda outlet: handlers)

    async def start(self) -> None:
        """Prepare the state: an event, and a listener that follows it."""
        await self.publisher.fire("seen", n=1)
        await self.listens.listen("seen")

    def give(self, data: bytes, random: Random) -> None:
        """Give bytes to all decoders, and to the matching handlers, or sometimes to others."""
        for read, skip in READERS:
            with contextlib.suppress(ProtocolError):
                read(data[skip:])
        try:
            envelope.decode(data)
        except ProtocolError:
            if random.randrange(20):
                return
        connection = next(iter(self.listens.consumer._connections.values()))
        if data[:1] >= b"\x20":
            connection._on_published(random.choice(TOPICS) + data)
            self.binding._on_subscription(data, random.random() < 0.5)
        else:
            self.binding._on_message(b"peer", data)
            connection._requests._on_frame(data)

    @property
    def guarded(self) -> int:
        """Return how often an error reached only a last guard."""
        guards = (self.binding.guard, self.publisher.guard, self.listens.consumer.guard)
        return sum(guard.failures for guard in guards)

    async def stop(self) -> None:
        """Close everything."""
        await self.listens.stop()
        self.publisher.close()
        self.binding.close()
        self.transport.close()


def _announcement(data: bytes) -> object:
    return Announcement.from_wire(codec.decode(data))


READERS: list[tuple[Callable[[bytes], object], int]] = [
    (envelope.decode, 0),
    (envelope.decode_record, HEAD),
    (codec.decode, HEAD),
    (_announcement, HEAD),
    (envelope.decode_published, 0),
]
TOPICS = [
    envelope.event_topic(API, "seen", 3), envelope.event_topic(API, "gone", 15), b"auth\0seen\0zz\0",
    b"auth\0seen\0-1\0", b"\xc3\0seen\x0003\0", b"\xff" * 17,
]  # fmt: skip


async def _run(inputs: Iterable[bytes], random: Random, found: Found) -> None:
    said = Said()
    with tempfile.TemporaryDirectory() as directory, said.watched():
        executor = HandlerThreads(1)
        worker = Worker(Path(directory), executor)
        await worker.start()
        for data in inputs:
            before = worker.guarded
            try:
                worker.give(data, random)
            except Exception as error:
                found.faults.append((data, f"raised {type(error).__name__}: {error!s:.200}"))
            if worker.guarded > before:
                found.faults.append((data, "was stopped by the last guard only"))
            found.faults += [(data, what) for what in said.faults]
            said.faults.clear()
            found.inputs += 1
            if found.inputs % 64 == 0:
                await asyncio.sleep(0)
        await worker.stop()
        executor.shutdown()


def fuzz(seed: int, count: int, *, most_faults: int = 10) -> Found:
    """Try this many inputs from a seed."""
    found, random, began = Found(), Random(seed), time.monotonic()
    logging.disable(logging.CRITICAL)
    try:
        while found.inputs < count and len(found.faults) < most_faults:
            inputs = islice(damaged(random), min(PER_WORKER, count - found.inputs))
            asyncio.run(_run(inputs, random, found))
    finally:
        logging.disable(logging.NOTSET)
    found.seconds = time.monotonic() - began
    return found


def replay() -> Found:
    """Repeat an input that found a fault, several times: topics and the like are also random."""
    found = Found()
    inputs = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(_run(50 * inputs, Random(0), found))
    finally:
        logging.disable(logging.NOTSET)
    return found
