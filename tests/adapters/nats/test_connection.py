"""The connection to the servers of a JetStream: nothing that is asked of them is waited for for ever."""

from __future__ import annotations

import asyncio

import pytest

from lightbus.adapters.nats import connection as module
from lightbus.adapters.nats.settings import NatsSettings
from lightbus.exceptions import EventBackendUnreachable


def test_what_never_comes_back_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a server does not answer."""
    monkeypatch.setattr(module, "PATIENCE", 0.01)

    async def main() -> None:
        connection = module.NatsConnection(NatsSettings())
        with pytest.raises(EventBackendUnreachable, match="does not answer"):
            async with connection.asking():
                await asyncio.Event().wait()

    asyncio.run(main())
