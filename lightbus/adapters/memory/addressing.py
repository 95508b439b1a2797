"""The endpoints of peers in this process: on a network in memory, named after their instance ids."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ...ports.transport import Endpoints, PublisherSocket, RouterSocket
from ...typing import Endpoint, InstanceId
from ...wire.announcement import Announcement
from .network import MemoryNetwork

__all__ = ["MemoryAddressing", "MemoryPair", "NoProtection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoProtection:
    """The security mode of the memory transport: no protection is needed, since only this process can connect."""

    mode: str = "memory"
    level: int = logging.INFO
    fingerprints: tuple[str, ...] = ("",)
    refusal: str = "there are no keys in memory"

    def describe(self) -> str:
        """Return a sentence: no other process can reach this bus."""
        return "no key: this bus stays in the memory of this process"


class MemoryPair:
    """The endpoints of a worker's two sockets."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    def look(self, now: float) -> bool:
        """Return False: the endpoints never change."""
        return False

    def move(self, addresses: tuple[str, ...]) -> None:
        """Do nothing: there are no addresses in memory."""

    def close(self) -> None:
        """Do nothing: the sockets unbind themselves."""


class MemoryAddressing:
    """
    The endpoints of peers and of our own sockets.

    Args:
        network: the network that all sockets are on.

    """

    addresses: tuple[str, ...] = ()

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network

    def look(self, now: float) -> bool:
        """Return False: there are no addresses in memory."""
        return False

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> MemoryPair:
        """Bind the two sockets of a worker under its instance."""
        rpc, event = router.bind(_calls(instance)), publisher.bind(_events(instance))
        return MemoryPair(Endpoints(rpc=rpc, event=event))

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether the peer has no port: then it may be on this network."""
        return announcement.on_host_only

    def fixed_peer(self, written: str) -> Endpoint:
        """Return the endpoint unchanged: no peer will be found at it."""
        return written

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return the endpoint of a peer, if it is bound."""
        endpoint = _calls(announcement.instance)
        return (endpoint,) if self._network.is_bound(endpoint) else ()

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """Return the endpoints for calls and events."""
        return endpoint, _events(announcement.instance)

    def is_certain(self, endpoint: Endpoint) -> bool:
        """Return True: no network lies in between."""
        return True

    def why_not(self, announcement: Announcement) -> str:
        """Return why a peer is not reachable; empty if it is."""
        return "" if self.endpoints(announcement, 0) else "it is not in this process any more: has it ended?"

    def is_gone(self, announcement: Announcement) -> bool:
        """Return True: a peer that is not on the network has left it."""
        return True

    def hint(self, announcement: Announcement) -> str:
        """Return what may be wrong with a silent peer."""
        return "Has its worker ended, or is it in another process, or does something block its event loop?"

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to do about a fixed peer: endpoints in memory differ after each start."""
        return "Leave the fixed peer out: workers of this process find each other."


def _calls(instance: InstanceId) -> Endpoint:
    return f"memory:{instance}/calls"


def _events(instance: InstanceId) -> Endpoint:
    return f"memory:{instance}/events"
