"""Which transport and which discovery a process has: those of the settings, or those that its program passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ..adapters.host.interfaces import follow_addresses, usable_addresses
from ..adapters.host.nearby import HostDiscovery, NearbyDiscovery
from ..adapters.host.places import Places, places_of_user
from ..adapters.mdns.discovery import ZeroconfDiscovery
from ..adapters.memory.discovery import NoDiscovery
from ..config import Config
from ..ports.discovery import Discovery, DiscoveryFactory
from ..ports.transport import Addressing, Transport, TransportFactory
from .entry_points import named_factory

__all__ = ["DISCOVERY_GROUP", "Network"]

DISCOVERY_GROUP = "lightbus_discovery"
"""The group of entry points that `discovery.backend` names one of: each a `DiscoveryFactory`."""

BUILT_IN = ("mdns", "none")
"""The values of `discovery.backend` that are the library's own."""


class Network:
    """
    The network of one bus in one process. The constructor opens nothing.

    Args:
        config: the settings.
        bus: the name of the bus.
        discovery: makes the discovery, in place of the one from the settings; called once per node.
        transport: makes the transport, in place of ZeroMQ's.
        directory: the directory of the sockets of mode host, in place of the user's own (for tests).

    Attributes:
        places: the directories of the sockets of mode host; None in other modes, and with a transport that is passed.
        addresses: the addresses of this host that are used; none in mode host.
        transport: makes the sockets.

    Raises:
        InvalidConfiguration: a setting cannot be used here.

    """

    def __init__(
        self,
        config: Config,
        bus: str,
        *,
        discovery: DiscoveryFactory | None = None,
        transport: TransportFactory | None = None,
        directory: Path | None = None,
    ) -> None:
        self._config = config
        self._bus = bus
        self._own_discovery = discovery or _named(config.discovery.backend)
        self.places: Places | None = None
        self.addresses: tuple[str, ...] = ()
        self.transport: Transport
        if transport is not None:
            self.transport = transport(bus, config.network)
        elif config.security.mode == "host":
            from . import zmq_network

            self.places = places_of_user(bus, config.journal.data_dir) if directory is None else Places.only(directory)
            self.transport = zmq_network.host_transport(config.network, self.places)
        else:
            from . import zmq_network

            self.addresses = usable_addresses(config.network.interfaces)
            self.transport = zmq_network.tcp_transport(config, bus, self.addresses, self._addressing)

    def discovery(self) -> Discovery:
        """Return a new discovery, for a new node."""
        if self._own_discovery is not None:
            return self._own_discovery(self._bus)
        is_multicast = self._config.discovery.backend == "mdns"
        if self.addresses:
            return ZeroconfDiscovery(self._bus, addresses=self.addresses) if is_multicast else NoDiscovery()
        multicast = partial(ZeroconfDiscovery, self._bus, is_needed=False) if is_multicast else None
        if self.places is not None:
            return HostDiscovery(NearbyDiscovery(self._bus, self.places), multicast)
        return NoDiscovery() if multicast is None else multicast()

    def _addressing(self) -> Addressing:
        from . import zmq_network

        self.addresses = self._follow(self.addresses)  # they may have changed since the last node
        return zmq_network.tcp_addressing(self._config.network, self.addresses, self._follow)

    def _follow(self, addresses: Sequence[str]) -> tuple[str, ...]:
        return follow_addresses(addresses, self._config.network.interfaces)


def _named(backend: str) -> DiscoveryFactory | None:
    """Return the factory from the entry point of this name; None for the library's own."""
    if backend in BUILT_IN:
        return None
    factory: DiscoveryFactory = named_factory("discovery.backend", backend, group=DISCOVERY_GROUP, built_in=BUILT_IN)
    return factory
