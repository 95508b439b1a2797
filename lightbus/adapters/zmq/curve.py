"""
Mode bus_key: the keys derived from a bus key, and how sockets encrypt and authenticate with them (CurveZMQ, RFC 26).

All holders of a key derive the same pairs, so a change here is a change of the protocol (docs/security.md).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import zmq

from ...config.keys import BusKey
from ...exceptions import InvalidConfiguration, PeerRefused, UnsupportedUse
from ...ports.transport import Addressing
from .addressing import TcpAddressing

__all__ = ["KeySecurity", "check_curve"]

ZAP_DOMAIN = b"lightbus"

_DERIVATION = b"lightbus 2, bus_key: "
"""Prefix of the purpose of each derived key (the `info` of HKDF, RFC 5869)."""


class KeySecurity:
    """
    Mode bus_key: TCP, encrypted (CURVE, RFC 26), for holders of the bus key only.

    From each key two pairs are derived, one for the side that binds and one for the side that connects: every holder
    of the key can do both. All our keys are accepted; our own connections use the first.

    Args:
        keys: the keys of one bus, first the one to use.
        addresses: the addresses that a worker listens on.

    Raises:
        InvalidConfiguration: there is no address.
        UnsupportedUse: this libzmq was built without CURVE.

    """

    mode = "bus_key"
    level = logging.INFO

    def __init__(self, *, keys: Sequence[BusKey], addresses: Sequence[str]) -> None:
        if not addresses:
            raise InvalidConfiguration("security 'bus_key' has no address to listen on: set LIGHTBUS_INTERFACES")
        check_curve()
        self.addresses = tuple(addresses)
        self._pairs = {key.fingerprint: _Pairs.derive(key) for key in keys}
        self.fingerprints: tuple[str, ...] = tuple(self._pairs)
        self.admitted: Mapping[bytes, str] = {
            pairs.client_public_raw: fingerprint for fingerprint, pairs in self._pairs.items()
        }

    def __repr__(self) -> str:
        return f"KeySecurity(fingerprints={self.fingerprints}, addresses={self.addresses})"

    @property
    def refusal(self) -> str:
        """The reason of a broken-off handshake, and which keys to compare."""
        return f"it has another key than ours ({', '.join(self.fingerprints)}), or none: compare `lightbus keys show`"

    def prepare_server(self, socket: zmq.Socket[Any]) -> None:
        """Make the socket accept the peers that the gate admits; without a gate it accepts none."""
        import zmq

        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._pairs[self.fingerprints[0]].server_secret)
        socket.set(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)  # else a missing gate would admit every peer

    def prepare_client(self, socket: zmq.Socket[Any], peer_fingerprint: str) -> None:
        """Make the socket prove that it holds the peer's key, and talk only to peers that hold it."""
        import zmq

        pairs = self._pairs.get(peer_fingerprint or self.fingerprints[0])
        if pairs is None:
            raise PeerRefused(f"it has the key {peer_fingerprint:.48}, and ours is {', '.join(self.fingerprints)}")
        socket.set(zmq.CURVE_PUBLICKEY, pairs.client_public)
        socket.set(zmq.CURVE_SECRETKEY, pairs.client_secret)
        socket.set(zmq.CURVE_SERVERKEY, pairs.server_public)

    def addressing(self) -> Addressing:
        """Return the addressing by TCP addresses."""
        return TcpAddressing(self.addresses)

    def describe(self) -> str:
        """Return a sentence: which peers can connect, and where."""
        spoken, *others = self.fingerprints
        also = f" (or {', '.join(others)})" if others else ""
        return (
            f"encrypted, and only for holders of the key {spoken}{also}: at {', '.join(self.addresses)}; "
            "to bring the key to another host: lightbus keys show"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairs:
    """The CURVE key pairs derived from one bus key, in Z85 (RFC 32), as libzmq expects them."""

    server_public: bytes
    server_secret: bytes = field(repr=False)
    client_public: bytes
    client_secret: bytes = field(repr=False)

    @classmethod
    def derive(cls, key: BusKey) -> _Pairs:
        from zmq import curve_public
        from zmq.utils import z85

        # Any 32 bytes are a secret key of Curve25519 (RFC 7748 section 5): the algorithm sets the fixed bits itself.
        server, client = z85.encode(_derive(key, b"server")), z85.encode(_derive(key, b"client"))
        return cls(
            server_public=curve_public(server),
            server_secret=server,
            client_public=curve_public(client),
            client_secret=client,
        )

    @property
    def client_public_raw(self) -> bytes:
        from zmq.utils import z85

        return z85.decode(self.client_public)


def _derive(key: BusKey, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256  # 10 ms; imported in this mode only
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_DERIVATION + purpose).derive(key.secret)


def check_curve() -> None:
    """Raise UnsupportedUse if this libzmq cannot encrypt."""
    import zmq

    if not zmq.has("curve"):
        raise UnsupportedUse(
            f"security 'bus_key' needs CURVE, and libzmq {zmq.zmq_version()} was built without it; install pyzmq from "
            "its wheels (pip install --only-binary pyzmq pyzmq), or a libzmq with libsodium"
        )
