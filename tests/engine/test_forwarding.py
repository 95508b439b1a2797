"""The outbox is emptied when its APIs are published, and refused events delay no other ones."""

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
from helpers.calling import A, FakeRequestContext, peer
from lightbus.adapters.sqlite.outbox import HostOutbox
from lightbus.engine.forwarding import Forwarder
from lightbus.exceptions import EventNotFound, InvalidEventArguments, PeerUnreachable, ProtocolError
from lightbus.rpc.request import OutboundBatch, OutboundEvent
from lightbus.wire.api_info import ApiInfo


class Engine(FakeRequestContext):
    """An engine whose publisher accepts events, or raises the given errors."""

    def __init__(self, *apis: str) -> None:
        super().__init__(peer(A))
        self.snapshot = replace(self.snapshot, by_api=dict.fromkeys(apis, (peer(A),)))
        self.executor = ThreadPoolExecutor(1)
        self.taken: list[str] = []
        self.sizes: list[int] = []
        """How many events each request was for."""
        self.refuses: Callable[[str], Exception | None] = lambda record: None

    def publish(self, api: str, digest: str) -> None:
        """Let an API be published in a form with this digest."""
        announcement = replace(peer(A).announcement, apis=(ApiInfo(name=api, digest=digest),), api_names=None)
        by_api = {**self.snapshot.by_api, api: (replace(peer(A), announcement=announcement),)}
        self.snapshot = replace(self.snapshot, by_api=by_api)

    def caller(self) -> Any:
        return self

    async def request(self, event: OutboundEvent) -> None:
        rows = event.rows if isinstance(event, OutboundBatch) else [[event.key, event.record]]
        self.sizes.append(len(rows))
        for _, record in rows:
            if (error := self.refuses(record.decode())) is not None:
                raise error
        self.taken += [record.decode() for _, record in rows]


def put(directory: Path, *names: str) -> None:
    """Put events into the outbox: `"auth.seen 1"`."""
    for name in names:
        api, event = name.split(" ")[0].split(".")
        HostOutbox(directory).put(id=name, api=api, event=event, key=None, record=name.encode())


def run(engine: Engine, directory: Path, test: Callable[[Forwarder], Any]) -> None:
    """Run a test with a running forwarder."""

    async def main() -> None:
        forwarder = Forwarder(engine, HostOutbox(directory))
        try:
            await test(forwarder)
        finally:
            forwarder.stop()
            await wait_until_async(lambda: forwarder._task is None)

    try:
        asyncio.run(main())
    finally:
        engine.executor.shutdown()


def test_waiting_events_are_handed_off_in_order(tmp_path: Path) -> None:
    """All of them, once their API is published; events without a publisher stay."""
    engine = Engine("auth")
    names = [f"auth.seen {number}" for number in range(150)]
    put(tmp_path, "mail.sent 1", *names)

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: HostOutbox(tmp_path).counts() == {"mail": 1})
        assert engine.taken == names
        assert len(engine.sizes) == 2  # events of one name go together, as many as a message holds
        assert engine.wanted == {"auth", "mail"}

    run(engine, tmp_path, test)


def test_a_failed_event_delays_its_api_only(tmp_path: Path) -> None:
    """Behind an event that is not accepted, the others of its API wait, in order; other APIs continue."""
    engine = Engine("auth", "mail")
    engine.refuses = lambda record: PeerUnreachable("gone") if record.startswith("auth.") else None
    put(tmp_path, *[f"auth.seen {number}" for number in range(120)], "mail.sent 1", "mail.sent 2")

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: HostOutbox(tmp_path).counts() == {"auth": 120})
        assert engine.taken == ["mail.sent 1", "mail.sent 2"]
        await wait_until_async(lambda: forwarder._task is None)
        [problem] = forwarder.problems
        assert problem.startswith("Events of auth are still waiting in the outbox")
        assert problem.endswith("gone")
        engine.refuses = lambda record: None
        forwarder.peers_changed()
        await wait_until_async(lambda: HostOutbox(tmp_path).counts() == {})
        assert engine.taken[2:] == [f"auth.seen {number}" for number in range(120)]
        assert forwarder.problems == []

    run(engine, tmp_path, test)


@pytest.mark.parametrize(
    "error", [InvalidEventArguments("n is missing"), EventNotFound("gone"), ProtocolError("no record")], ids=repr
)
def test_an_invalid_event_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """It is stored, logged once, and delays no other event; when its API changes, it is tried again."""
    engine = Engine("auth", "mail")
    engine.publish("auth", "digest 1")
    asked: list[str] = []

    def refuses(record: str) -> Exception | None:
        asked.append(record)
        return error if record.startswith("auth.gone") else None

    engine.refuses = refuses
    put(tmp_path, "auth.gone 1", "auth.gone 2", "auth.seen 1", "mail.sent 1")
    outbox = HostOutbox(tmp_path)

    async def idle(forwarder: Forwarder) -> None:
        forwarder.peers_changed()
        await wait_until_async(lambda: forwarder._task is None)

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: outbox.counts() == {"auth": 2} and outbox.refused() != [])
        assert engine.taken == ["auth.seen 1", "mail.sent 1"]
        assert outbox.refused() == [("auth", "gone", 2, str(error))]
        for _ in range(3):
            await idle(forwarder)
        assert asked == ["auth.gone 1", "auth.gone 1", "auth.gone 2", "auth.seen 1", "mail.sent 1"]  # first together
        engine.publish("auth", "digest 2")
        await idle(forwarder)
        assert asked[5:] == ["auth.gone 1", "auth.gone 1", "auth.gone 2"]
        engine.publish("auth", "digest 1")
        engine.refuses = lambda record: None
        await idle(forwarder)
        assert engine.taken[2:] == ["auth.gone 1", "auth.gone 2"]
        assert outbox.counts() == {}

    run(engine, tmp_path, test)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 2  # one for each form of the API
    assert warnings[0].startswith("The event auth.gone 1 of auth.gone (and 1 others of this name) was refused by its ")
    assert f"{error} It is tried again once the API 'auth' changes" in warnings[0]


def test_an_event_is_put_into_the_outbox_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found the next time, although the outbox was empty."""
    engine = Engine("auth")
    put(tmp_path, "auth.seen 1")
    HostOutbox(tmp_path).delivered(["auth.seen 1"])
    read = HostOutbox.counts

    def read_and_put(outbox: HostOutbox) -> dict[str, int]:
        found = read(outbox)
        put(tmp_path, "auth.seen 2")
        return found

    monkeypatch.setattr(HostOutbox, "counts", read_and_put)

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: read(HostOutbox(tmp_path)) == {"auth": 1} and forwarder._task is None)
        monkeypatch.setattr(HostOutbox, "counts", read)
        forwarder.peers_changed()
        await wait_until_async(lambda: engine.taken == ["auth.seen 2"])

    run(engine, tmp_path, test)


def test_an_outbox_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged, and reading is retried."""
    put(tmp_path, "auth.seen 1")
    whole = HostOutbox(tmp_path).path.read_bytes()
    HostOutbox(tmp_path).path.unlink()
    HostOutbox(tmp_path).path.mkdir()
    engine = Engine("auth")

    async def test(forwarder: Forwarder) -> None:
        await wait_until_async(lambda: "cannot be handed off now" in caplog.text and forwarder._task is None)
        HostOutbox(tmp_path).path.rmdir()
        HostOutbox(tmp_path).path.write_bytes(whole)
        forwarder.peers_changed()
        await wait_until_async(lambda: engine.taken == ["auth.seen 1"])

    run(engine, tmp_path, test)
