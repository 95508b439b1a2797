"""The outbox is emptied when somebody publishes what waits there, and what is not taken holds up nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers import wait_until_async
from helpers.calling import A, FakeDoorway, peer
from lightbus.exceptions import EventNotFound, InvalidEventArguments, PeerUnreachable
from lightbus.io.outbox import Outbox
from lightbus.runtime.forwarding import Forwarder
from lightbus.runtime.outgoing import OutgoingEvent


class Engine(FakeDoorway):
    """An engine whose publisher takes what it is given, or raises what it is told to."""

    def __init__(self, *apis: str) -> None:
        super().__init__(peer(A))
        self.snapshot = replace(self.snapshot, by_api=dict.fromkeys(apis, (peer(A),)))
        self.executor = ThreadPoolExecutor(1)
        self.taken: list[str] = []
        self.refuses: Callable[[OutgoingEvent], Exception | None] = lambda event: None

    def caller(self) -> Any:
        return self

    async def request(self, event: OutgoingEvent) -> None:
        if (error := self.refuses(event)) is not None:
            raise error
        self.taken.append(event.record.decode())


def put(directory: Path, *names: str) -> None:
    """Put events in: `"auth.seen 1"`."""
    for name in names:
        api, event = name.split(" ")[0].split(".")
        Outbox(directory).put(id=name, api=api, event=event, key=None, record=name.encode())


def run(engine: Engine, directory: Path, test: Callable[[Forwarder], Any]) -> None:
    """Run a test with a forwarder at work."""

    async def main() -> None:
        forwarder = Forwarder(engine, directory)
        try:
            await test(forwarder)
        finally:
            forwarder.stop()
            await wait_until_async(lambda: forwarder._task is None)

    try:
        asyncio.run(main())
    finally:
        engine.executor.shutdown()


def test_what_waits_is_handed_off_in_order(tmp_path: Path) -> None:
    """Once somebody publishes it, all of it, and it is out then; what nobody publishes goes on waiting."""
    engine = Engine("auth")
    names = [f"auth.seen {number}" for number in range(150)]
    put(tmp_path, "mail.sent 1", *names)

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: Outbox(tmp_path).counts() == {"mail": 1})
        assert engine.taken == names
        assert engine.wanted == {"auth", "mail"}

    run(engine, tmp_path, test)


def test_what_is_not_taken_holds_up_its_api_only(tmp_path: Path) -> None:
    """Behind an event that is not taken the others of its API wait, in order; those of other APIs go."""
    engine = Engine("auth", "mail")
    engine.refuses = lambda event: PeerUnreachable("gone") if event.api == "auth" else None
    put(tmp_path, *[f"auth.seen {number}" for number in range(120)], "mail.sent 1", "mail.sent 2")

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: Outbox(tmp_path).counts() == {"auth": 120})
        assert engine.taken == ["mail.sent 1", "mail.sent 2"]
        await wait_until_async(lambda: forwarder._task is None)
        engine.refuses = lambda event: None
        forwarder.peers_changed()
        await wait_until_async(lambda: Outbox(tmp_path).counts() == {})
        assert engine.taken[2:] == [f"auth.seen {number}" for number in range(120)]

    run(engine, tmp_path, test)


@pytest.mark.parametrize(("error", "left"), [(InvalidEventArguments("n is missing"), 0), (EventNotFound("gone"), 1)])
def test_what_will_never_be_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, left: int
) -> None:
    """Arguments that do not fit any more are dropped, and the log says so; an event may come back with its Api."""
    engine = Engine("auth", "mail")
    engine.refuses = lambda event: error if event.api == "auth" else None
    put(tmp_path, "auth.seen 1", "mail.sent 1")

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: sum(Outbox(tmp_path).counts().values()) == left)
        assert engine.taken == ["mail.sent 1"]

    run(engine, tmp_path, test)
    dropped = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(dropped) == 1 - left


def test_an_outbox_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and tried again."""
    put(tmp_path, "auth.seen 1")
    whole = Outbox(tmp_path).path.read_bytes()
    Outbox(tmp_path).path.write_bytes(b"no database" * 1000)
    engine = Engine("auth")

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: "is not emptied" in caplog.text and forwarder._task is None)
        Outbox(tmp_path).path.write_bytes(whole)
        forwarder.peers_changed()
        await wait_until_async(lambda: engine.taken == ["auth.seen 1"])

    run(engine, tmp_path, test)
