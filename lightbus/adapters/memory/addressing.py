"""Where peers are that are in this process: on a network in memory, each under the name of its instance."""

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
    """There is none, and none is needed: nobody else is in this process."""

    mode: str = "memory"
    level: int = logging.INFO
    fingerprints: tuple[str, ...] = ("",)
    refusal: str = "there are no keys in memory"

    def describe(self) -> str:
        """Say that nobody else can reach it."""
        return "no key: this bus stays in the memory of this process"


class MemoryPair:
    """Where the two sockets of a worker are."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.endpoints = endpoints

    def look(self, now: float) -> bool:
        """Nothing takes them away."""
        return False

    def move(self, addresses: tuple[str, ...]) -> None:
        """There are no addresses to be at."""

    def close(self) -> None:
        """Nothing is left that leads here."""


class MemoryAddressing:
    """
    Where peers are, and where we are.

    Args:
        network: where they meet.

    """

    addresses: tuple[str, ...] = ()

    def __init__(self, network: MemoryNetwork) -> None:
        self._network = network

    def look(self, now: float) -> bool:
        """There are no addresses that could change."""
        return False

    def listen(self, instance: InstanceId, router: RouterSocket, publisher: PublisherSocket) -> MemoryPair:
        """Bind the two sockets of a worker under its instance."""
        rpc, event = router.bind(_calls(instance)), publisher.bind(_events(instance))
        return MemoryPair(Endpoints(rpc=rpc, event=event))

    def can_reach(self, announcement: Announcement) -> bool:
        """Return whether it has no port: then it may be on this network, too."""
        return announcement.on_host_only

    def fixed_peer(self, written: str) -> Endpoint:
        """Return it as it is: nobody is there."""
        return written

    def endpoints(self, announcement: Announcement, failures: int) -> tuple[Endpoint, ...]:
        """Return where it is, if it is there."""
        endpoint = _calls(announcement.instance)
        return (endpoint,) if self._network.is_bound(endpoint) else ()

    def answered(self, announcement: Announcement, endpoint: Endpoint) -> tuple[Endpoint, Endpoint]:
        """Return where it is."""
        return endpoint, _events(announcement.instance)

    def is_certain(self, endpoint: Endpoint) -> bool:
        """Nothing is in between."""
        return True

    def why_not(self, announcement: Announcement) -> str:
        """Return where it is not."""
        return "" if self.endpoints(announcement, 0) else "it is not in this process any more: has it ended?"

    def is_gone(self, announcement: Announcement) -> bool:
        """Whoever is not on the network has left it."""
        return True

    def hint(self, announcement: Announcement) -> str:
        """Return what may be wrong."""
        return "Has its worker ended, or is it in another process, or does something block its event loop?"

    def remedy(self, endpoint: Endpoint) -> str:
        """Return what to look at: nobody keeps an endpoint in memory over a start."""
        return "Leave the fixed peer out: workers of this process find each other."


def _calls(instance: InstanceId) -> Endpoint:
    return f"memory:{instance}/calls"


def _events(instance: InstanceId) -> Endpoint:
    return f"memory:{instance}/events"
