"""
Access to our sockets: the security modes.

A mode prepares each socket before it is bound or connected, and knows nothing of what goes through it. Mode bus_key is
in `curve`, and who watches over its bound sockets while they are open in `gate`. Where those of mode host are is in
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
        """The mode's name, as `LIGHTBUS_SECURITY` has it."""

    @property
    def level(self) -> int:
        """The logging level of `describe()`: a mode without protection warns."""

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of our keys, that of the one we speak first; one empty text without keys."""

    @property
    def admitted(self) -> Mapping[bytes, str] | None:
        """The peers that may connect: the fingerprint of the key, by CURVE public key; None if no key is required."""

    @property
    def refusal(self) -> str:
        """What it means that a peer breaks off our handshake, and what to do: the end of a sentence about it."""

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Set what a socket needs before it is bound."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """
        Set what a socket needs before it connects to the peer whose key has this fingerprint (empty: not known).

        Raises PeerRefused if it is not one of ours: trying is of no use.
        """

    def addressing(self) -> Addressing:
        """Return where peers are in this mode, for a node that begins."""

    def describe(self) -> str:
        """Return the sentence that a worker logs at its start: who can reach it, and how to change that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSecurity:
    """Mode host: no key, and sockets that only this user can open."""

    places: Places
    mode: str = "host"
    level: int = logging.INFO
    fingerprints: tuple[str, ...] = ("",)
    admitted: None = None
    refusal: str = "it may want a key, and this process has none (mode host): lightbus keys"

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Nothing to set: the file system decides which users may connect."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """Nothing to set: only this user's processes can have bound the socket."""

    def addressing(self) -> Addressing:
        """Peers are where the sockets are."""
        return HostAddressing(self.places)

    def describe(self) -> str:
        """Say that the bus stays on this host, and what opens it."""
        return (
            f"no key: this bus stays on this host (ipc sockets in {self.places.first}, other users are kept out by the "
            "file system); one key on each host opens it to the LAN: lightbus keys init"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class InsecureSecurity:
    """
    Mode insecure: plain TCP, for trusted networks, benchmarks and tests. It must be written out.

    Raises:
        InvalidConfiguration: no bus name, or no address: either would open more than was asked for.

    """

    bus: str
    addresses: tuple[str, ...]
    mode: str = "insecure"
    level: int = logging.WARNING
    fingerprints: tuple[str, ...] = ("",)
    admitted: None = None
    refusal: str = "it may want a key, and mode insecure has none: unset LIGHTBUS_SECURITY where there is one"

    def __post_init__(self) -> None:
        if not self.bus:
            raise InvalidConfiguration("security 'insecure' wants a bus name of its own: set LIGHTBUS_BUS (bus.name)")
        if not self.addresses:
            raise InvalidConfiguration("security 'insecure' has no address to listen on: set LIGHTBUS_INTERFACES")

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Nothing to set: anyone may connect."""

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """Nothing to set: there is no authentication."""

    def addressing(self) -> Addressing:
        """Peers are at their addresses."""
        return TcpAddressing(self.addresses)

    def describe(self) -> str:
        """Warn that there is no protection, and say what gives some."""
        return (
            f"security is 'insecure': whoever reaches {', '.join(self.addresses)} can call and fire everything on the "
            f"bus '{self.bus}', and read it on the way; unset LIGHTBUS_SECURITY to keep the bus on this host"
        )
