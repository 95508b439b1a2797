"""The connection to the servers of a JetStream: no request waits for ever."""

from __future__ import annotations

import asyncio
import gc

import pytest

from helpers import wait_until_async
from helpers.nats_servers import NatsServer
from lightbus.adapters.nats import connection as module
from lightbus.adapters.nats.settings import NatsSettings
from lightbus.exceptions import EventBackendUnreachable


def test_unanswered_request_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a server does not answer."""
    monkeypatch.setattr(module, "TIMEOUT_FACTOR", 0.01)

    async def main() -> None:
        connection = module.NatsConnection(NatsSettings())
        with pytest.raises(EventBackendUnreachable, match="does not answer"):
            async with connection.asking():
                await asyncio.Event().wait()

    asyncio.run(main())


def test_no_connection_after_close() -> None:
    """Neither by later requests, nor by those that had started before."""

    async def main(server: NatsServer) -> None:
        connection = module.NatsConnection(NatsSettings(servers=(server.url,)))
        connecting = asyncio.create_task(connection.client())
        await asyncio.sleep(0)  # connecting has started
        await connection.close()
        await asyncio.gather(connecting, return_exceptions=True)
        with pytest.raises(EventBackendUnreachable):
            await connection.client()
        gc.collect()  # an unclosed socket causes a ResourceWarning here

    with NatsServer() as server:
        asyncio.run(main(server))


def test_silent_connection_is_dropped() -> None:
    """Another server is connected to, although the first one's host has closed nothing."""

    async def main(first: NatsServer, second: NatsServer) -> None:
        connection = module.NatsConnection(NatsSettings(servers=(first.url, second.url), timeout=0.2))
        client = await connection.client()
        connected_to = client.connected_url
        assert connected_to is not None
        hung, other = (first, second) if connected_to.port == first.port else (second, first)
        with hung.hanging():
            await wait_until_async(
                lambda: client.is_connected and client.connected_url and client.connected_url.port == other.port
            )
            async with connection.asking():
                await client.flush()
        await connection.close()
        gc.collect()  # an unclosed socket causes a ResourceWarning here

    with NatsServer() as first, NatsServer() as second:
        asyncio.run(main(first, second))
