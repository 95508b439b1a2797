"""How many functions hand an event on, in steady state: each is a place where a reader has to look, and takes time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import lightbus
from helpers import wait_until_async
from lightbus import Api, BusPath, Event

PACKAGE = str(Path(lightbus.__path__[0]))

WARM_UP = 5
"""Events that are handled first, so that what is remembered is known."""


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
    """Nine functions at most hand an event on from where its frame is read to its handler; the document names them."""
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
        for n in range(WARM_UP + 1):
            to_queue.clear()
            await publishes.auth.seen.fire_async(n=n)
            await wait_until_async(lambda n=n: len(to_handler) == n + 1)  # type: ignore[misc]
        await listens.client.stop_worker()
        await publishes.client.stop_worker()

    asyncio.run(main())
    way = to_queue[0] + to_handler[-1]
    assert len(way) <= 9, way
    document = Path(__file__).parent.parent.joinpath("docs/architecture/events.md").read_text()
    assert " -> ".join(way) in " ".join(document.split())


def test_from_fire_to_the_socket(buses: tuple[BusPath, BusPath]) -> None:
    """Nine functions at most store an event and give its frame to the socket; the document names them."""
    publishes, _ = buses
    to_journal: list[list[str]] = []
    to_socket: list[list[str]] = []

    async def main() -> None:
        await publishes.client.start_worker()
        publisher: Any = publishes.client.engine.publisher
        journal, socket = publishes.client.engine.journals.own(), publisher.broadcast._send.__self__
        append, send = journal.append, socket._send

        def note_append(events: Any) -> Any:
            to_journal.append(stations())
            return append(events)

        def note_send(frame: bytes) -> Any:
            way = [*stations(), "loop_socket._send"]
            if "broadcast.tick" not in way:  # which tells the newest of an idle topic
                to_socket.append(way)
            return send(frame)

        journal.append, socket._send = note_append, note_send  # type: ignore[method-assign]
        for n in range(WARM_UP + 1):
            to_socket.clear()
            await publishes.auth.seen.fire_async(n=n)
            await wait_until_async(lambda: to_socket)
        del journal.append, socket._send
        await publishes.client.stop_worker()

    asyncio.run(main())
    way = to_journal[-1] + to_socket[0]
    assert len(way) <= 9, way
    document = Path(__file__).parent.parent.joinpath("docs/architecture/events.md").read_text()
    assert " -> ".join(way) in " ".join(document.split())
