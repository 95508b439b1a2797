"""How many functions pass on an event in steady state: each costs time, and a reader has to look there."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import lightbus
from helpers import wait_until_async
from lightbus import Api, BusPath, Event
from lightbus.adapters.sqlite.journal_file import JournalFile
from lightbus.adapters.zmq.bound_sockets import Router
from lightbus.adapters.zmq.connecting_sockets import Dealer
from lightbus.events.groups.cursor_store import CursorStore
from lightbus.events.listening.ack_collector import AckCollector

PACKAGE = str(Path(lightbus.__path__[0]))

WARM_UP = 5
"""Events that are handled first, so that what is remembered is known."""


STATIONS: tuple[tuple[str, type, str], ...] = (
    ("listener_turns._turn", AckCollector, "add"),
    ("ack_collector.flush", Dealer, "send"),
    ("loop_socket._readable", CursorStore, "on_ack"),
    ("cursor_store.save", JournalFile, "change"),
    ("cursor_store.save", Router, "send"),
    ("loop_socket._readable", AckCollector, "_answered"),
)
"""
The parts of an acknowledgement's way: where each begins, and the method where it rests or leaves the process. What two
parts in a row begin with is one function.
"""

ACK_STATIONS = 16
"""Six of them are the sockets' own, which read or send whatever comes; the number only shrinks."""


class Auth(Api):
    seen = Event(["n"])

    class Meta:
        name = "auth"


def stations() -> list[str]:
    """Return the functions of the package that are on the stack, the outermost first."""
    found: list[str] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            found.insert(0, f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
        frame = frame.f_back
    return found


@pytest.fixture
def buses() -> Iterator[tuple[BusPath, BusPath]]:
    """Return one bus that publishes, and one that listens."""
    publishes, listens = (lightbus.create(service_name=name) for name in ("publishes", "listens"))
    publishes.client.register_api(Auth())
    yield publishes, listens
    publishes.client.close()
    listens.client.close()


def test_from_the_socket_to_the_handler(buses: tuple[BusPath, BusPath]) -> None:
    """At most nine functions pass an event from reading its frame to its handler; the document names them."""
    publishes, listens = buses
    to_queue: list[list[str]] = []
    to_handler: list[list[str]] = []

    async def handle(message: lightbus.EventMessage, n: int) -> None:
        to_handler.append(stations())

    listens.auth.seen.listen(handle)

    async def main() -> None:
        await publishes.client.start_worker()
        await listens.client.start_worker()
        worker: Any = listens.client.worker
        [runner] = worker.parts.consumer.runners
        await wait_until_async(lambda: worker.parts.consumer.is_live_at(publishes.client.engine.identity.instance))
        wake, wake_up = runner.queue.wake, runner.queue.wake.set

        def note() -> None:
            way = stations()
            if "publisher_connection._on_events" in way:  # else it is the answer to an acknowledgement
                to_queue.append(way)
            wake_up()

        wake.set = note
        for n in itertools.count():
            await publishes.auth.seen.fire_async(n=n)
            await wait_until_async(lambda n=n: len(to_handler) == n + 1)  # type: ignore[misc]
            if n >= WARM_UP and to_queue:  # beside load one may be asked for before it arrives
                break
            to_queue.clear()
        await listens.client.stop_worker()
        await publishes.client.stop_worker()

    asyncio.run(main())
    way = to_queue[0] + to_handler[-1]
    assert len(way) <= 9, way
    document = Path(__file__).parent.parent.joinpath("docs/architecture/events.md").read_text()
    assert " -> ".join(way) in " ".join(document.split())


def test_from_fire_to_the_socket(buses: tuple[BusPath, BusPath]) -> None:
    """At most nine functions store an event and send its frame; the document names them."""
    publishes, _ = buses
    to_journal: list[list[str]] = []
    to_socket: list[list[str]] = []

    async def main() -> None:
        await publishes.client.start_worker()
        publisher: Any = publishes.client.engine.publisher
        journal, socket = publishes.client.engine.journals.own(), publisher.broadcast._send.__self__
        append, send = journal.append_one, socket._send

        def note_append(*event: Any, **more: bool) -> Any:
            to_journal.append(stations())
            return append(*event, **more)

        def note_send(frame: bytes) -> Any:
            way = [*stations(), "loop_socket._send"]
            if "broadcast.tick" not in way:  # which tells the newest of an idle topic
                to_socket.append(way)
            return send(frame)

        journal.append_one, socket._send = note_append, note_send  # type: ignore[method-assign]
        for n in range(WARM_UP + 1):
            to_socket.clear()
            await publishes.auth.seen.fire_async(n=n)
            await wait_until_async(lambda: to_socket)
        del journal.append_one, socket._send
        await publishes.client.stop_worker()

    asyncio.run(main())
    way = to_journal[-1] + to_socket[0]
    assert len(way) <= 9, way
    document = Path(__file__).parent.parent.joinpath("docs/architecture/events.md").read_text()
    assert " -> ".join(way) in " ".join(document.split())


def test_from_the_handlers_end_to_the_cursor_and_back(
    buses: tuple[BusPath, BusPath], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many functions at most have an acknowledgement stored and confirmed; the document names them."""
    publishes, listens = buses
    ways: dict[str, list[str]] = {}
    for begin, owner, name in STATIONS:
        _note_way(monkeypatch, begin, owner, name, ways)

    async def main() -> None:
        await publishes.client.start_worker()
        await listens.client.start_worker()
        worker: Any = listens.client.worker
        await wait_until_async(lambda: worker.parts.consumer.is_live_at(publishes.client.engine.identity.instance))
        for n in range(WARM_UP + 1):
            ways.clear()
            await publishes.auth.seen.fire_async(n=n)
            await wait_until_async(lambda: "ack_collector._answered" in ways)
        await listens.client.stop_worker()
        await publishes.client.stop_worker()

    listens.auth.seen.listen(_handle)
    asyncio.run(main())
    way: list[str] = []
    for (_, owner, name), (before, *_) in zip(STATIONS, [("",), *STATIONS], strict=False):
        way += [station for station in ways[_station(owner, name)] if station != before]
    assert len(way) <= ACK_STATIONS, way
    document = Path(__file__).parent.parent.joinpath("docs/architecture/events.md").read_text()
    assert " -> ".join(way) in " ".join(document.split())


async def _handle(message: lightbus.EventMessage, n: int) -> None:
    pass


def _station(owner: type, name: str) -> str:
    return f"{owner.__module__.rpartition('.')[2]}.{name}"


def _note_way(monkeypatch: pytest.MonkeyPatch, begin: str, owner: type, name: str, ways: dict[str, list[str]]) -> None:
    """Record the path on which a function is first reached from another."""
    function, station = getattr(owner, name), _station(owner, name)

    def noting(self: Any, *args: Any) -> Any:
        way = stations()
        if begin in way:
            ways.setdefault(station, [*way[way.index(begin) :], station])
        return function(self, *args)

    monkeypatch.setattr(owner, name, noting)
