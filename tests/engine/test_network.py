"""The transport and the discovery of a process."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lightbus.adapters.host.nearby import HostDiscovery
from lightbus.adapters.mdns.discovery import ZeroconfDiscovery
from lightbus.adapters.memory.discovery import NoDiscovery
from lightbus.adapters.memory.network import MemoryNetwork
from lightbus.adapters.memory.transport import MemoryTransport
from lightbus.config import load_config
from lightbus.engine.network import DISCOVERY_GROUP, Network
from lightbus.exceptions import InvalidConfiguration

INSECURE = {"security": {"mode": "insecure"}, "bus": {"name": "b"}, "network": {"interfaces": ["127.0.0.1"]}}


@pytest.mark.parametrize(
    ("settings", "kind", "described"),
    [
        ({}, HostDiscovery, "sockets in "),
        ({"discovery": {"backend": "none"}}, HostDiscovery, "sockets in "),
        (INSECURE, ZeroconfDiscovery, "zeroconf on "),
        ({**INSECURE, "discovery": {"backend": "none"}}, NoDiscovery, "zeroconf switched off"),
        ({**INSECURE, "discovery": {"mdns": False}}, NoDiscovery, "zeroconf switched off"),
    ],
    ids=["host", "host without multicast", "insecure", "insecure without", "insecure, as it was written before"],
)
def test_discovery_from_the_settings(tmp_path: Path, settings: dict[str, object], kind: type, described: str) -> None:
    """With or without multicast; in mode host there are always files. Messages name it."""
    network = Network(load_config(settings), "b", directory=tmp_path)
    discovery = network.discovery()
    assert type(discovery) is kind
    assert discovery.describe().startswith(described)
    network.transport.close()


def test_own_transport_ignores_the_security_mode(tmp_path: Path) -> None:
    """With an own transport, no directory, address or key is used; multicast follows the settings."""
    network = Network(
        load_config(INSECURE), "b", transport=lambda bus, settings: MemoryTransport(MemoryNetwork()), directory=tmp_path
    )
    assert (network.places, network.addresses) == (None, ())
    assert type(network.discovery()) is ZeroconfDiscovery


def test_discovery_by_the_name_of_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package provides a discovery, and a setting names it."""
    point = EntryPoint("nobody", "lightbus.adapters.memory.discovery:NoDiscovery", DISCOVERY_GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == DISCOVERY_GROUP else [])
    monkeypatch.setattr(NoDiscovery, "__init__", lambda self, bus="": None)
    network = Network(load_config({"discovery": {"backend": "nobody"}}), "b")
    assert type(network.discovery()) is NoDiscovery
    network.transport.close()
    with pytest.raises(InvalidConfiguration, match=r"backend is 'x', and there is: mdns, none, nobody\. Install the"):
        Network(load_config({"discovery": {"backend": "x"}}), "b")
