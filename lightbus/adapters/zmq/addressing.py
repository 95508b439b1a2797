"""The endpoints of peers and of this process: files in this user's directories (mode host), or TCP ports."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence

from ...exceptions import TransportError
from ...ports.transport import MOST_ENDPOINTS, Endpoints, PublisherSocket, RouterSocket
from ...typing import Endpoint, InstanceId
from ...wire.announcement import Announcement
from ..host.interfaces import dial_order
from ..host.places import Places
from .host_sockets import HostSockets
from .local_addresses import LocalAddresses

__all__ = ["HostAddressing", "TcpAddressing", "TcpSockets"]

logger = logging.getLogger("lightbus.binding")

PORT_ATTEMPTS = 20
_PORTS = range(20_000, 32_000)
"""Candidates for a port common to several addresses: below Linux' range of outgoing ports."""


class HostAddressing:
    """
    Endpoints in mode host. Only files in our own directories are trusted: another user could listen on a port.

    Args:
        places: the directories.

    """

    addresses: tuple[str, ...] = ()

    def __init__(self, places: Places) -> None:
        self._places = places

    def look(self, now: float) -> bool:
        """Return False: mode host uses no addresses."""
        return False

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> HostSockets:
        """Bind in every usable directory. Raises InvalidConfiguration if there is none."""
        sockets = HostSockets(instance, self._places, router, publisher)
        sockets.open()
        return sockets

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether the peer listens at files, not at ports."""
        return announcement.on_host_only

    def fixed_peer(self, written: str) -> Endpoint:
        """Return the endpoint of a fixed peer: `host:port` means TCP."""
        return _fixed_peer(written)

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return the peer's files that exist here. At first only one of them: all lead to the same process."""
        found = self._places.endpoints(announcement.instance, announcement.directory)
        return _tried_next(found, failures) if failures else found[:1]

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """Return the endpoints for calls and events: another file of the peer if this one has been removed."""
        if not os.path.exists(endpoint.removeprefix("ipc://")):
            seen = self._places.endpoints(announcement.instance, announcement.directory)
            endpoint = next(iter(seen), endpoint)
        return endpoint, _event_endpoint(announcement, endpoint)

    def is_certain(self, endpoint: Endpoint) -> bool:
        """Return True: no network lies in between."""
        return True

    def why_not(self, announcement: Announcement) -> str:
        """Return why none of the peer's files is found here."""
        return self._places.why_not(announcement.instance, announcement.directory)

    def is_gone(self, announcement: Announcement) -> bool:
        """Return whether the peer's files would be found here if it were running."""
        return self._places.would_see(announcement.directory)

    def hint(self, announcement: Announcement) -> str:
        """Return why the peer's files are not found here; if they are found, what may be wrong with the peer."""
        why = self.why_not(announcement)
        return f"{why[0].upper()}{why[1:]}." if why else "Is the process still running, and not stopped?"

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to check if nothing answers at the endpoint of a fixed peer."""
        return _remedy(endpoint)


class TcpAddressing:
    """
    Endpoints in the TCP modes, and the addresses of this host that we listen at while interfaces come and go.

    Args:
        addresses: the addresses to start with.
        follow: returns the addresses to listen at, given the present ones.
        rpc_port, event_port: the ports that workers listen at; 0: any free port.

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
        self._networks = self._local.networks
        self._ports = rpc_port, event_port

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that we listen at."""
        return self._local.addresses

    def look(self, now: float) -> bool:
        """Check, if it is due, whether our addresses have changed."""
        changed = self._local.have_changed(now)
        if changed:
            self._networks = self._local.networks
        return changed

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> TcpSockets:
        """Bind to the same two ports at every address. Raises TransportError."""
        return TcpSockets(router, publisher, self.addresses, *self._ports)

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether the peer listens at ports."""
        return not announcement.on_host_only

    def fixed_peer(self, written: str) -> Endpoint:
        """Return the endpoint of a fixed peer: `host:port` means TCP."""
        return _fixed_peer(written)

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return the peer's endpoints, those in our networks first; of many, after each failure the next ones."""
        ordered = dial_order(announcement.addresses, self._networks)
        return tuple(_tcp(address, announcement.rpc_port) for address in _tried_next(ordered, failures))

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """Return the endpoint at which the peer answered, and the one for its events at the same address."""
        return endpoint, _event_endpoint(announcement, endpoint)

    def is_certain(self, endpoint: Endpoint) -> bool:
        """Return whether the endpoint is on this host; elsewhere, silence may mean that our own network is down."""
        return endpoint.startswith("ipc://") or _address_of(endpoint) in {
            network.partition("/")[0] for network in self._networks
        }

    def why_not(self, announcement: Announcement) -> str:
        """Return the reason if the peer announces no address."""
        return "" if announcement.addresses else "it announces no address"

    def is_gone(self, announcement: Announcement) -> bool:
        """Return False: without an address, nothing can be said of the peer."""
        return False

    def hint(self, announcement: Announcement) -> str:
        """Return what may be wrong with the peer."""
        return "Is the process still running, and is its port open to this host?"

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to check if nothing answers at the endpoint of a fixed peer."""
        return _remedy(endpoint)


class TcpSockets:
    """
    The two sockets of a worker, at the same two ports of all its addresses. Only touched from the node's loop.

    Nothing is unbound when addresses change: a vanished address does no harm, and may come back. And if something is
    sent while an endpoint is unbound, libzmq 4.3.5 may leave a connection that answers heartbeats but carries no
    messages.

    Raises TransportError if binding fails.
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
        """Return False: ports need no checks."""
        return False

    def move(self, addresses: tuple[str, ...]) -> None:
        """Bind the same ports at these addresses, too; addresses for which that fails are left out."""
        before = self.endpoints
        for address in addresses:
            if address not in self._bound:
                self._bind_also(address)
        bound = tuple(address for address in addresses if address in self._bound) or tuple(self._bound)
        self.endpoints = _endpoints(bound, before.rpc_port, before.event_port)

    def close(self) -> None:
        """Do nothing: ports leave nothing behind."""

    def _bind_also(self, address: str) -> None:
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
    """Bind to one port at every address; if `port` is 0, to any port that is free at all of them."""
    if port or len(addresses) == 1:
        bound = [socket.bind(_tcp(address, port or "*")) for address in addresses]
        return int(bound[0].rpartition(":")[2])
    problem: TransportError | None = None
    # Not by a generator that forks share, nor by the process id: the first process of each container has the same.
    for candidate in random.SystemRandom().sample(_PORTS, PORT_ATTEMPTS):
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


def _tried_next(found: tuple[str, ...], failures: int) -> tuple[str, ...]:
    """Return as many endpoints as are tried at a time: after each failure the next ones."""
    if len(found) <= MOST_ENDPOINTS:
        return found
    first = MOST_ENDPOINTS * failures % len(found)
    return (*found, *found)[first : first + MOST_ENDPOINTS]


def _event_endpoint(announcement: Announcement, endpoint: Endpoint) -> Endpoint:
    """Return the event endpoint of a peer whose calls are at `endpoint`; empty if it is unknown."""
    if announcement.on_host_only:
        return f"{endpoint.rpartition('/')[0]}/{announcement.instance}.pub"
    address = _address_of(endpoint) or next(iter(announcement.addresses), "")
    return _tcp(address, announcement.event_port) if address else ""


def _address_of(endpoint: Endpoint) -> str:
    """Return the host of a TCP endpoint without brackets; empty for a file."""
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
