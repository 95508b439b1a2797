"""The transport in memory: log lines of dropped frames. The contract of all transports is in tests/ports."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from helpers import wait_until_async
from lightbus.adapters.memory import network as network_module
from lightbus.adapters.memory.network import MemoryNetwork
from lightbus.adapters.memory.transport import MemoryTransport
from lightbus.exceptions import TransportError


def test_dropped_frames_are_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Frames for a peer that does not read; logged the first time, and then ever more rarely."""
    monkeypatch.setattr(network_module, "HIGH_WATER", 10)

    async def main() -> None:
        transport = MemoryTransport(MemoryNetwork())
        told: list[bytes] = []
        publisher = transport.publisher(lambda prefix, subscribed: told.append(prefix))
        publisher.bind("here")
        subscriber = transport.subscriber("here", lambda frame: None)
        subscriber.subscribe(b"")
        await wait_until_async(lambda: told)
        subscriber.pause()
        for _ in range(15):
            publisher.send(b"x")
        assert publisher.dropped == 5
        transport.close()

    asyncio.run(main())
    assert [record.args for record in caplog.records] == [("What was published", count) for count in (1, 2, 4)]


def test_second_bind_is_refused() -> None:
    """The error names the endpoint."""

    async def main() -> None:
        transport = MemoryTransport(MemoryNetwork())
        transport.router(lambda routing_id, frame: None).bind("here")
        with pytest.raises(TransportError, match="Cannot listen at here: another socket is bound there"):
            transport.router(lambda routing_id, frame: None).bind("here")
        transport.close()

    asyncio.run(main())


def test_callback_does_not_run_in_the_senders_context() -> None:
    """It runs in the context in which the socket was made, even if the sender is on the same loop."""
    caller = contextvars.ContextVar("caller", default="nobody")

    async def main() -> None:
        transport, seen = MemoryTransport(MemoryNetwork()), list[str]()
        transport.router(lambda routing_id, frame: seen.append(caller.get())).bind("here")
        caller.set("somebody")
        transport.dealer("here", lambda frame: None).send(b"hello")
        await wait_until_async(lambda: seen)
        assert seen == ["nobody"]
        transport.close()

    asyncio.run(main())


def test_failing_callback_does_not_stop_reading() -> None:
    """The loop reports the error, and the next frame is read."""

    async def main() -> None:
        transport, seen, reported = MemoryTransport(MemoryNetwork()), list[bytes](), list[str]()
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: reported.append(str(context["exception"]))
        )

        def read(routing_id: bytes, frame: bytes) -> None:
            seen.append(frame)
            if frame == b"bad":
                raise ValueError("no room")

        transport.router(read).bind("here")
        dealer = transport.dealer("here", lambda frame: None)
        for frame in (b"bad", b"good"):
            dealer.send(frame)
        await wait_until_async(lambda: seen == [b"bad", b"good"])
        assert reported == ["no room"]
        transport.close()

    asyncio.run(main())
