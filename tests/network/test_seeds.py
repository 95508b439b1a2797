"""Fixed peers given by name: several addresses, SRV records, name servers that hang."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from helpers.doors import Door
from helpers.name_server import NameServer
from lightbus import UnknownApi

if TYPE_CHECKING:
    from network.conftest import Network

PATIENT = {"timeout": 30}
"""Options of a call that is refused, or answered, however crowded the machine is."""


@pytest.fixture
def server() -> Iterator[NameServer]:
    """Return a name server for this process. Requested before `network`: it outlives the buses that ask it."""
    served = NameServer()
    with served.asked_here():
        yield served


@pytest.mark.parametrize("by", ["host", "record"])
def test_name_with_several_addresses(
    server: NameServer, network: Network, monkeypatch: pytest.MonkeyPatch, door: Door, by: str
) -> None:
    """One address of a host's name, or of an SRV record, is enough."""
    network.use("seed")
    worker = network.start_all("seed", "work")[0]
    server.hosts["auth.example"] = ["127.0.0.9", "127.0.0.1"]
    server.services["_lightbus._tcp.auth.example"] = [("auth.example", network.seed_port)]
    name = f"auth.example:{network.seed_port}" if by == "host" else "srv+lightbus://auth.example"
    monkeypatch.setenv("LIGHTBUS_PEERS", name)
    bus = network.bus()
    assert door.call(bus.work.who, bus_options=PATIENT) == worker.pid
    [fixed] = bus.client.engine.node.fixed_peers()
    assert fixed.answering == (f"tcp://127.0.0.1:{network.seed_port}",)
    assert len(fixed.addresses) == 2


def test_name_server_that_hangs(
    server: NameServer, network: Network, monkeypatch: pytest.MonkeyPatch, door: Door
) -> None:
    """It delays no call that another peer serves; other calls get the reason, and work once it answers."""
    network.use("seed")
    worker = network.start_all("seed", "work")[0]
    server.answers.clear()
    monkeypatch.setenv("LIGHTBUS_PEERS", f"auth.example:1,127.0.0.1:{network.seed_port}")
    assert door.call(network.bus().work.who, bus_options=PATIENT) == worker.pid
    monkeypatch.setenv("LIGHTBUS_PEERS", f"seed.example:{network.seed_port}")
    bus = network.bus()
    with pytest.raises(UnknownApi, match="0 of 1 fixed peers answer"):
        door.call(bus.work.who, bus_options=PATIENT)
    server.hosts["seed.example"] = ["127.0.0.1"]
    server.answers.set()
    bus.client.wait_for_apis("work", timeout=60)
    assert door.call(bus.work.who, bus_options=PATIENT) == worker.pid


def test_name_that_moves(server: NameServer, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """If its address fails, the name is looked up again, and found at the next one."""
    network.use("seed")
    worker = network.start_all("seed", "work")[0]
    server.hosts["seed.example"] = ["127.0.0.9"]
    monkeypatch.setenv("LIGHTBUS_PEERS", f"seed.example:{network.seed_port}")
    bus = network.bus()
    with pytest.raises(UnknownApi):
        bus.work.who(bus_options=PATIENT)
    server.hosts["seed.example"] = ["127.0.0.1"]
    bus.client.wait_for_apis("work", timeout=60)
    assert bus.work.who(bus_options=PATIENT) == worker.pid
    assert server.asked.count("seed.example") > 1
