"""
Access to our sockets: the security modes.

A mode prepares each socket before it is bound or connected, and knows nothing of its messages. Mode bus_key is in
`curve`; `gate` watches its bound sockets while they are open. The directories of mode host are in
`adapters.host.places`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import zmq

from ...exceptions import InvalidConfiguration
from ...ports.transport import Addressing
from ..host.places import Places
from .addressing import HostAddressing, TcpAddressing

__all__ = [
    "HostSecurity",
    "InsecureSecurity",
    "Security",
]

logger = logging.getLogger("lightbus.security")


class Security(Protocol):
    """A mode of security. One object serves all sockets of an engine."""

    @property
    def mode(self) -> str:
        """The mode's name, as in `LIGHTBUS_SECURITY`."""

    @property
    def level(self) -> int:
        """The logging level of `describe()`: a warning for a mode without protection."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of our keys, first that of the key we use; a single empty text without keys."""

    @property
    def admitted(self) -> Mapping[bytes, str] | None:
        """The peers that may connect: CURVE public key -> fingerprint of the key; None if no key is required."""

    @property
    def refusal(self) -> str:
        """What a peer's breaking off the handshake means, and what to do: the end of a sentence about the peer."""

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Set what a socket needs before it is bound."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """
        Set what a socket needs before it connects to the peer whose key has this fingerprint (empty: not known).

        Raises PeerRefused if the key is not one of ours: connecting would fail.
        """

    def addressing(self) -> Addressing:
        """Return the addressing of this mode for a new node."""

    def describe(self) -> str:
        """Return the sentence that a worker logs at its start: who can reach the worker, and how to change that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSecurity:
    """Mode host: no key, and sockets that only this user can open."""

    places: Places
    mode: str = "host"
    level: int = logging.INFO
    fingerprints: tuple[str, ...] = ("",)
    admitted: None = None
    refusal: str = "it may require a key, and this process has none (mode host): lightbus keys"

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Nothing to set: the file system decides which users may connect."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """Nothing to set: only this user's processes can have bound the socket."""

    def addressing(self) -> Addressing:
        """Return the addressing by files in the directories of the sockets."""
        return HostAddressing(self.places)

    def describe(self) -> str:
        """Return a sentence: the bus stays on this host, and how to open it."""
        return (
            f"no key: this bus stays on this host (ipc sockets in {self.places.first}, other users are kept out by the "
            "file system); one key on each host opens it to the LAN: lightbus keys init"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InsecureSecurity:
    """
    Mode insecure: plain TCP, for trusted networks, benchmarks and tests. It must be written out.

    Raises:
        InvalidConfiguration: no bus name, or no address: either would open more than intended.

    """

    bus: str
    addresses: tuple[str, ...]
    mode: str = "insecure"
    level: int = logging.WARNING
    fingerprints: tuple[str, ...] = ("",)
    admitted: None = None
    refusal: str = "it may require a key, and mode insecure has none: unset LIGHTBUS_SECURITY where there is one"

    def __post_init__(self) -> None:
        if not self.bus:
            raise InvalidConfiguration("security 'insecure' needs a bus name of its own: set LIGHTBUS_BUS (bus.name)")
        if not self.addresses:
            raise InvalidConfiguration("security 'insecure' has no address to listen on: set LIGHTBUS_INTERFACES")

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Nothing to set: anyone may connect."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """Nothing to set: there is no authentication."""

    def addressing(self) -> Addressing:
        """Return the addressing by TCP addresses."""
        return TcpAddressing(self.addresses)

    def describe(self) -> str:
        """Return the warning that there is no protection, and how to get it."""
        return (
            f"security is 'insecure': whoever reaches {', '.join(self.addresses)} can call and fire everything on the "
            f"bus '{self.bus}', and read it on the way; unset LIGHTBUS_SECURITY to keep the bus on this host"
        )
