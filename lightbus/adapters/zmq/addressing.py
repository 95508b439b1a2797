"""Where peers are, and where we are: files in this user's directories (mode host), or ports at addresses (TCP)."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence

from ...exceptions import TransportError
from ...ports.transport import MOST_ENDPOINTS, Endpoints, PublisherSocket, RouterSocket
from ...typing import Endpoint, InstanceId
from ...wire.announcement import Announcement
from ..host.interfaces import dial_order, networks_of
from ..host.places import Places
from .host_sockets import HostSockets
from .local_addresses import LocalAddresses

__all__ = ["HostAddressing", "TcpAddressing", "TcpSockets"]

logger = logging.getLogger("lightbus.binding")

PORT_ATTEMPTS = 20
_PORTS = range(20_000, 32_000)
"""Where a common port for several addresses is looked for: below the range from which Linux takes outgoing ports."""


class HostAddressing:
    """
    Where peers are in mode host. Only files in our own directories are trusted: behind a port could be another user.

    Args:
        places: the directories.

    """

    addresses: tuple[str, ...] = ()

    def __init__(self, places: Places) -> None:
        self._places = places

    def look(self, now: float) -> bool:
        """No address is used."""
        return False

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> HostSockets:
        """Bind in every directory that can be used. Raises InvalidConfiguration where there is none."""
        sockets = HostSockets(instance, self._places, router, publisher)
        sockets.open()
        return sockets

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether it has no port, but files."""
        return announcement.on_host_only

    def fixed_peer(self, written: str) -> Endpoint:
        """Return the endpoint of a fixed peer: a host and a port are reached by TCP."""
        return _fixed_peer(written)

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return its files that are seen here. The first is enough at first: they all lead to one process."""
        found = self._places.endpoints(announcement.instance, announcement.directory)
        return _turn(found, failures) if failures else found[:1]

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """Return the endpoint for further connections: an open one outlives the file that it was made by."""
        if not os.path.exists(endpoint.removeprefix("ipc://")):
            seen = self._places.endpoints(announcement.instance, announcement.directory)
            endpoint = next(iter(seen), endpoint)
        return endpoint, _event_endpoint(announcement, endpoint)

    def is_certain(self, endpoint: Endpoint) -> bool:
        """There is no network in between."""
        return True

    def why_not(self, announcement: Announcement) -> str:
        """Return why none of its files is seen here."""
        return self._places.why_not(announcement.instance, announcement.directory)

    def is_gone(self, announcement: Announcement) -> bool:
        """Return whether its files would be seen here."""
        return self._places.would_see(announcement.directory)

    def hint(self, announcement: Announcement) -> str:
        """Return why its files are not seen; where they are, what may be wrong with it."""
        why = self.why_not(announcement)
        return f"{why[0].upper()}{why[1:]}." if why else "Is the process still running, and not stopped?"

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to check if nothing answers at the endpoint of a fixed peer."""
        return _remedy(endpoint)


class TcpAddressing:
    """
    Where peers are in the modes of TCP, and at which addresses of this host we are, as interfaces come and go.

    Args:
        addresses: where we are now.
        follow: returns where we are to be, given where we are.
        rpc_port, event_port: where workers listen; 0: at any free port.

    """

    def __init__(
        self,
        addresses: Sequence[str],
        follow: Callable[[Sequence[str]], tuple[str, ...]] = tuple,
        *,
        rpc_port: int = 0,
        event_port: int = 0,
    ) -> None:
        self._local = LocalAddresses(addresses, follow)
        self._networks = networks_of(addresses)
        self._ports = rpc_port, event_port

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where we are."""
        return self._local.addresses

    def look(self, now: float) -> bool:
        """Look, if it is time to, whether interfaces came or went."""
        changed = self._local.have_changed(now)
        if changed:
            self._networks = self._local.networks
        return changed

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> TcpSockets:
        """Bind to the same two ports at every address. Raises TransportError."""
        return TcpSockets(router, publisher, self.addresses, *self._ports)

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether it has ports."""
        return not announcement.on_host_only

    def fixed_peer(self, written: str) -> Endpoint:
        """Return the endpoint of a fixed peer: a host and a port are reached by TCP."""
        return _fixed_peer(written)

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return its addresses, those in our networks first; after a failure the next ones, where there are many."""
        ordered = dial_order(announcement.addresses, self._networks)
        return tuple(_tcp(address, announcement.rpc_port) for address in _turn(ordered, failures))

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """Return where it answered, and its other port there."""
        return endpoint, _event_endpoint(announcement, endpoint)

    def is_certain(self, endpoint: Endpoint) -> bool:
        """Return whether it is on this host: elsewhere it may be our own network that is unplugged, or asleep."""
        return endpoint.startswith("ipc://") or _address_of(endpoint) in {
            network.partition("/")[0] for network in self._networks
        }

    def why_not(self, announcement: Announcement) -> str:
        """Return that it does not say where it is."""
        return "" if announcement.addresses else "it announces no address"

    def is_gone(self, announcement: Announcement) -> bool:
        """Nothing is known of one that has no address."""
        return False

    def hint(self, announcement: Announcement) -> str:
        """Return what may be wrong with it."""
        return "Is the process still running, and is its port open to this host?"

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to check if nothing answers at the endpoint of a fixed peer."""
        return _remedy(endpoint)


class TcpSockets:
    """
    The two sockets of a worker, at the same two ports of all its addresses. Only touched from the node's loop.

    Nothing is unbound when addresses change: one that is gone harms nobody, and may come back. And where something is
    sent while an endpoint is unbound, libzmq 4.3.5 may leave a connection that answers heartbeats and carries nothing.

    Raises TransportError where that cannot be.
    """

    def __init__(
        self,
        router: RouterSocket,
        publisher: PublisherSocket,
        addresses: tuple[str, ...],
        rpc_port: int = 0,
        event_port: int = 0,
    ) -> None:
        self._router = router
        self._publisher = publisher
        rpc_port = _bind_all(router, addresses, rpc_port)
        event_port = _bind_all(publisher, addresses, event_port)
        self._bound = dict.fromkeys(addresses)
        self.endpoints = _endpoints(addresses, rpc_port, event_port)

    def look(self, now: float) -> bool:
        """Ports do not have to be checked."""
        return False

    def move(self, addresses: tuple[str, ...]) -> None:
        """Be reachable at these addresses, too, at the same ports; those for which that fails are left out."""
        before = self.endpoints
        for address in addresses:
            if address not in self._bound:
                self._bind_too(address)
        bound = tuple(address for address in addresses if address in self._bound) or tuple(self._bound)
        self.endpoints = _endpoints(bound, before.rpc_port, before.event_port)

    def close(self) -> None:
        """Nothing is left that leads here."""

    def _bind_too(self, address: str) -> None:
        at = _endpoints((address,), self.endpoints.rpc_port, self.endpoints.event_port)
        try:
            self._router.bind(at.rpc)
            try:
                self._publisher.bind(at.event)
            except TransportError:
                self._router.unbind(at.rpc)
                raise
        except TransportError as error:
            logger.warning(
                "This worker is not reachable at the new address %s, but still at its other ones: %s", address, error
            )
        else:
            self._bound[address] = None


def _endpoints(addresses: tuple[str, ...], rpc_port: int, event_port: int) -> Endpoints:
    return Endpoints(
        rpc=_tcp(addresses[0], rpc_port),
        event=_tcp(addresses[0], event_port),
        addresses=addresses,
        rpc_port=rpc_port,
        event_port=event_port,
    )


def _bind_all(socket: RouterSocket | PublisherSocket, addresses: Sequence[str], port: int) -> int:
    """Bind to one port at every address; to any port that is free at all of them where `port` is 0."""
    if port or len(addresses) == 1:
        bound = [socket.bind(_tcp(address, port or "*")) for address in addresses]
        return int(bound[0].rpartition(":")[2])
    problem: TransportError | None = None
    for candidate in random.Random(os.getpid()).sample(_PORTS, PORT_ATTEMPTS):
        bound = []
        try:
            for address in addresses:
                bound.append(socket.bind(_tcp(address, candidate)))
        except TransportError as error:
            problem = error
            for endpoint in bound:
                socket.unbind(endpoint)
        else:
            return candidate
    raise TransportError(f"No port is free at any of {', '.join(addresses)}. The last attempt: {problem}")


def _turn(found: tuple[str, ...], failures: int) -> tuple[str, ...]:
    """Return as many as are tried at a time: after each failure the next ones."""
    if len(found) <= MOST_ENDPOINTS:
        return found
    first = MOST_ENDPOINTS * failures % len(found)
    return (*found, *found)[first : first + MOST_ENDPOINTS]


def _event_endpoint(announcement: Announcement, endpoint: Endpoint) -> Endpoint:
    """Return where the events of a peer are whose calls are at `endpoint`; empty where it does not say so."""
    if announcement.on_host_only:
        return f"{endpoint.rpartition('/')[0]}/{announcement.instance}.pub"
    address = _address_of(endpoint) or next(iter(announcement.addresses), "")
    return _tcp(address, announcement.event_port) if address else ""


def _address_of(endpoint: Endpoint) -> str:
    """Return the host of a TCP endpoint, brackets and all taken off; empty for a file."""
    if not endpoint.startswith("tcp://"):
        return ""
    return endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def _tcp(address: str, port: int | str) -> Endpoint:
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def _fixed_peer(written: str) -> Endpoint:
    return written if "://" in written else f"tcp://{written}"


def _remedy(endpoint: Endpoint) -> str:
    if endpoint.startswith("ipc://"):
        return (
            "Is a worker running there? Its file has another name after each start: leave the fixed peer out, workers "
            "of this user find each other."
        )
    return "Is a worker running there with this network.rpc_port, and is the port open to this host?"
