"""The presence of a worker for others, from its first socket to its last announcement. In memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from helpers import wait_until_async
from lightbus import Api, BusPath, InvalidConfiguration
from lightbus.core.peers import PeerState
from lightbus.engine.binding import Binding
from lightbus.engine.presence import Presence
from lightbus.testing import MemoryBus, memory_bus
from lightbus.wire import announcement
from lightbus.wire.api_info import ApiInfo


class AuthApi(Api):
    class Meta:
        name = "auth"

    def check(self) -> bool:
        return True


def presence_of(bus: BusPath) -> Presence:
    worker: Any = bus.client.worker
    return worker.parts.presence


def run(test: Callable[[MemoryBus, BusPath, BusPath], Awaitable[None]]) -> None:
    """Run a test with a worker on this loop, and a peer that knows it."""

    async def main() -> None:
        async with memory_bus() as hub:
            serves, other = hub.create(), hub.create()
            serves.client.register_api(AuthApi())
            await hub.start_async(serves)
            await other.auth.check.call_async()
            await test(hub, serves, other)

    asyncio.run(main())


def apis_of(bus: BusPath, instance: str) -> list[str]:
    """Return the APIs that a bus knows of a peer."""
    peer = bus.client.engine.snapshot.peers.get(instance)
    return [] if peer is None else sorted(peer.announcement.api_names or ())


def test_changed_announcements_reach_all_peers() -> None:
    """Connected peers are notified at once, and so is the worker itself."""

    async def test(hub: MemoryBus, serves: BusPath, other: BusPath) -> None:
        presence, instance = presence_of(serves), serves.client.engine.identity.instance
        await presence.advertise([ApiInfo(name="auth"), ApiInfo(name="shop")])
        assert {"auth", "shop"} <= set(apis_of(serves, instance))
        await wait_until_async(lambda: "shop" in apis_of(other, instance))
        await presence.advertise([ApiInfo(name="auth")])
        await wait_until_async(lambda: "shop" not in apis_of(other, instance))

    run(test)


def test_a_worker_that_cannot_be_announced_leaves_no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not start; nobody can connect to it."""
    closed: list[Binding] = []
    close = Binding.close

    def noted(binding: Binding) -> None:
        closed.append(binding)
        close(binding)

    monkeypatch.setattr(Binding, "close", noted)
    monkeypatch.setattr(announcement, "MAX_NAMES", 0)

    async def main() -> None:
        async with memory_bus() as hub:
            serves = hub.create()
            serves.client.register_api(AuthApi())
            with pytest.raises(InvalidConfiguration, match="at most 0 and"):
                await hub.start_async(serves)
            assert len(closed) == 1

    asyncio.run(main())


def test_nothing_is_announced_before_the_worker_is_ready() -> None:
    """A peer that finds it earlier sees that it exists, and none of its APIs."""

    async def test(hub: MemoryBus, serves: BusPath, other: BusPath) -> None:
        own = presence_of(serves)._node.own
        assert "auth" in (own.advertised.api_names or ())
        own._is_public = False
        assert own.advertised.api_names == ()
        assert "auth" in (own.current.api_names or ())

    run(test)


def test_a_draining_worker_is_announced_as_such() -> None:
    """Others send it no new requests, and it sees itself as draining."""

    async def test(hub: MemoryBus, serves: BusPath, other: BusPath) -> None:
        presence, instance = presence_of(serves), serves.client.engine.identity.instance
        await presence.drain(5.0)
        assert presence._node.registry.peers[instance].state is PeerState.DRAINING
        await wait_until_async(lambda: other.client.engine.snapshot.peers[instance].state is PeerState.DRAINING)

    run(test)


def test_a_tick_without_changes_makes_no_announcement() -> None:
    """Nothing is announced again while peers still connect."""

    async def test(hub: MemoryBus, serves: BusPath, other: BusPath) -> None:
        assert presence_of(serves).tick(time.monotonic()) is False

    run(test)
