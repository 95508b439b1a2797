"""Endpoints of peers in this process: on a network in memory, named after their instances."""

from __future__ import annotations

import asyncio

from lightbus.adapters.memory.addressing import MemoryAddressing, NoProtection
from lightbus.adapters.memory.network import MemoryNetwork
from lightbus.adapters.memory.transport import MemoryTransport
from lightbus.wire.announcement import Announcement

ONE, TWO = "1" * 16, "2" * 16


def announced(instance: str = ONE, port: int = 0) -> Announcement:
    """Return the announcement of a peer."""
    ports = {"rpc_port": port, "event_port": port + 1, "addresses": ("10.0.0.1",)} if port else {}
    return Announcement(bus="b", instance=instance, service="s", process="p", host="h", apis=(), **ports)


def test_worker_is_found_by_its_instance() -> None:
    """From binding until it leaves; then the reason is given."""
    network = MemoryNetwork()
    addressing = MemoryAddressing(network)

    async def main() -> None:
        transport = MemoryTransport(network)
        router = transport.router(lambda routing_id, frame: None)
        publisher = transport.publisher(lambda prefix, subscribed: None)
        assert addressing.endpoints(announced(), 0) == ()
        pair = addressing.listen(ONE, router, publisher)
        assert addressing.endpoints(announced(), 3) == (pair.endpoints.rpc,)
        assert addressing.answered(announced(), pair.endpoints.rpc) == (pair.endpoints.rpc, pair.endpoints.event)
        assert addressing.why_not(announced()) == ""
        assert addressing.endpoints(announced(TWO), 0) == ()
        assert "has it ended?" in addressing.why_not(announced(TWO))
        pair.close()  # the sockets unbind when they are closed
        transport.close()
        assert addressing.endpoints(announced(), 0) == ()

    asyncio.run(main())


def test_two_workers_have_different_endpoints() -> None:
    """For calls and events each."""
    network = MemoryNetwork()

    async def main() -> None:
        transport = MemoryTransport(network)
        pairs = [
            MemoryAddressing(network).listen(
                instance, transport.router(lambda *_: None), transport.publisher(lambda *_: None)
            )
            for instance in (ONE, TWO)
        ]
        places = {place for pair in pairs for place in (pair.endpoints.rpc, pair.endpoints.event)}
        assert len(places) == 4
        transport.close()

    asyncio.run(main())


def test_peer_with_a_port_is_not_in_memory() -> None:
    """It can be reached by TCP, and not on this network."""
    addressing = MemoryAddressing(MemoryNetwork())
    assert addressing.can_reach(announced())
    assert not addressing.can_reach(announced(port=7001))


def test_memory_endpoints_never_change() -> None:
    """There are no addresses that change, and no network in between."""
    addressing = MemoryAddressing(MemoryNetwork())
    assert (addressing.addresses, addressing.look(0.0)) == ((), False)
    assert addressing.is_certain("memory:x/calls")
    assert addressing.fixed_peer("10.0.0.7:5570") == "10.0.0.7:5570"
    assert addressing.is_gone(announced())


def test_sentences_for_people() -> None:
    """What may be wrong, and what protects the bus: no other process can reach it."""
    addressing = MemoryAddressing(MemoryNetwork())
    assert "Has its worker ended" in addressing.hint(announced())
    assert "Leave the fixed peer out" in addressing.remedy("memory:x/calls")
    assert "stays in the memory of this process" in NoProtection().describe()
    assert NoProtection().fingerprints == ("",)
