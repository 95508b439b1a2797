"""Tests of lightbus.gateway.streaming: the open streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import BusPath
from lightbus.cli.support.connection import Connection
from lightbus.gateway import streaming
from lightbus.gateway.problems import Refusal
from lightbus.gateway.requests import now_at
from lightbus.gateway.streaming import Streaming


def run(on_bus: Any, connect: Any, use: Any) -> Any:
    async def main(bus: Connection) -> Any:
        made = Streaming(bus, lambda api: api == "shop")
        try:
            return await use(made)
        finally:
            await made.close()

    return on_bus(main)


class Open:
    """A stream that is open until it is left."""

    def __init__(self, streams: Streaming, client: str, reader: Any) -> None:
        self._gone = asyncio.Event()
        self.sent = b""
        self.task = asyncio.create_task(
            streams.answer(client, reader, now_at(reader.places))({}, self._receive, self._send)  # type: ignore[arg-type]
        )

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent += message.get("body", b"")

    async def leave(self) -> None:
        self._gone.set()
        await self.task


def test_streams_of_one_event_are_read_together(shop: BusPath, on_bus: Any, connect: Any) -> None:
    """Later streams share the reader; after the last one nothing is read, and nothing listens."""

    async def use(streams: Streaming) -> None:
        readers = [await streams.join("a", "shop", "ordered") for _ in range(2)]
        assert readers[0] is readers[1]
        other = await streams.join("a", "shop", "seen")
        assert other is not readers[0]
        opened = [Open(streams, "a", reader) for reader in (*readers, other)]
        assert streams.count == 3
        await wait_until_async(lambda: all(each.sent for each in opened))
        await shop.shop.ordered.fire_async(product="lamp")
        await wait_until_async(lambda: b"lamp" in opened[0].sent and b"lamp" in opened[1].sent)
        for each in opened:
            await each.leave()
        assert streams.count == 0
        await wait_until_async(lambda: not streams.is_listening)

    run(on_bus, connect, use)


def test_best_effort_is_streamed(shop: BusPath, on_bus: Any, connect: Any) -> None:
    """Though no journal has it."""

    async def use(streams: Streaming) -> None:
        stream = Open(streams, "a", await streams.join("a", "shop", "seen"))
        while b"lamp" not in stream.sent:  # what is fired before its publisher knows of us is not for us
            await shop.shop.seen.fire_async(product="lamp")
            await asyncio.sleep(0.01)
        await stream.leave()

    run(on_bus, connect, use)


def test_streams_are_bounded(shop: BusPath, on_bus: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client's, and all: one more is refused until another one has ended."""
    monkeypatch.setattr(streaming, "MAX_STREAMS_OF_ONE", 2)
    monkeypatch.setattr(streaming, "MAX_STREAMS", 3)

    async def use(streams: Streaming) -> None:
        opened = [Open(streams, name, await streams.join(name, "shop", "ordered")) for name in ("a", "a", "b")]
        for name, status, whose in (("a", 429, "This client has 2 streams open"), ("b", 503, "3 streams are open")):
            with pytest.raises(Refusal, match=whose) as raised:
                await streams.join(name, "shop", "ordered")
            assert (raised.value.status, raised.value.headers["Retry-After"]) == (status, "10")
        await opened[0].leave()
        opened[0] = Open(streams, "a", await streams.join("a", "shop", "ordered"))
        for each in opened:
            await each.leave()

    run(on_bus, connect, use)


def test_a_stream_that_cannot_begin(shop: BusPath, on_bus: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All waiting streams get the error and are not counted, and the next one tries again."""

    async def breaks(self: Any) -> Any:
        await asyncio.sleep(0)
        raise OSError("no room")

    async def use(streams: Streaming) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(streaming.EventReader, "_look", breaks)
            joining = [streams.join("a", "shop", "ordered") for _ in range(2)]
            failed = await asyncio.gather(*joining, return_exceptions=True)
            assert [type(each) for each in failed] == [OSError, OSError]
            assert streams.count == 0
        await Open(streams, "a", await streams.join("a", "shop", "ordered")).leave()

    run(on_bus, connect, use)


def test_close_ends_open_streams(shop: BusPath, on_bus: Any, connect: Any) -> None:
    """Closing ends open streams, too."""

    async def use(streams: Streaming) -> None:
        stream = Open(streams, "a", await streams.join("a", "shop", "ordered"))
        await wait_until_async(lambda: bool(stream.sent))
        streams.closing.set()
        await stream.task
        assert streams.count == 0

    run(on_bus, connect, use)
