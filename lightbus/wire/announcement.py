"""
The announcement of a peer: as TXT record, and as value in HELLO and INFO replies.

Knows both forms and their limits, and nothing of the sender: everything received is untrusted until the peer itself
has answered HELLO, so each field has a bound. The registry decides which peers to trust.

A TXT record (DNS-SD, RFC 6763 section 6) has the keys

    v     protocol version         proc  process name, maybe shortened         fp    fingerprint of its key
    bus   bus name                 host  host name                             h     digest of the API set
    id    instance id              pub   port of its events, 0 in mode host    apis  API names, comma-separated,
    svc   service name                                                               only while they all fit
    dir   directory of its sockets in mode host, if it fits

and the port of its calls is the one of the SRV record. The value in HELLO and INFO is a map with the same keys, and
`rpc` and `addr`, too; there `apis` is a list of whole `ApiInfo`s, replaced by `names` where only the names are known.
Unknown keys are of a later version, and are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..exceptions import InvalidConfiguration, ProtocolError
from ..typing import InstanceId
from .announced_fields import (
    MAX_DIGEST,
    MAX_FINGERPRINT,
    as_tuple,
    check_endpoints,
    check_instance,
    check_int,
    check_names,
    check_text,
    reading,
)
from .api_info import ApiInfo, compute_digest

__all__ = [
    "MAX_FOREIGN_TXT_BYTES",
    "MAX_TXT_BYTES",
    "PROTOCOL_VERSION",
    "Announcement",
    "new_instance_id",
    "shorten",
]

PROTOCOL_VERSION = 1

MAX_TXT_BYTES = 400
"""Most bytes of the TXT record we send: with its other records an announcement then fits in one 1500-byte packet."""

MAX_FOREIGN_TXT_BYTES = 1024
"""Most bytes of a TXT record that we read: room for later versions, but not for a flood."""

MAX_PAIR_BYTES = 255
"""Most bytes of `key=value`: the length is a single byte (RFC 6763 section 6.1)."""

MAX_NAMES = 8192
MAX_NAME_CHARACTERS = 256 * 1024
"""Most procedures and events of all APIs of one peer, and characters of their names: peers are kept in memory."""

# In bytes of UTF-8. Together they leave at least 17 bytes of MAX_TXT_BYTES for the process name, the only one
# that is ever shortened: no decision depends on it.
_MAX_BUS = 64
_MAX_SERVICE = 128
_MAX_PROCESS = 64
_MAX_HOST = 64  # Linux: HOST_NAME_MAX
_MAX_DIRECTORY = 107  # unix(7): no socket has a longer path


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """
    The announcement of one peer. Until the peer has answered HELLO with this `instance`, it is hearsay.

    Attributes:
        instance: 16 lowercase hexadecimal digits, new at each start of the process.
        host: its host name, to compare hosts.
        directory: the directory of its sockets, in mode host; empty if unknown.
        addresses: its IP addresses, preferred ones first; empty in mode host.
        rpc_port, event_port: TCP ports; both 0 in mode host, where sockets are files named after the instance.
        fingerprint: the fingerprint of its key, never the key itself; empty without keys.
        api_names: the APIs it advertises; None means they did not fit into the TXT record, so ask the peer.
        apis: the APIs in full; None until the peer itself has sent them. They determine `api_names` and `digest`.
        digest: digest of the API set (`compute_digest`).
        max_message_size: the largest message to it, in bytes; 0 until the peer itself has sent it.

    Raises:
        InvalidConfiguration: a field cannot be announced; the message names it.

    """

    bus: str
    instance: InstanceId
    service: str
    process: str
    host: str
    addresses: tuple[str, ...] = ()
    rpc_port: int = 0
    event_port: int = 0
    fingerprint: str = ""
    protocol: int = PROTOCOL_VERSION
    api_names: tuple[str, ...] | None = None
    apis: tuple[ApiInfo, ...] | None = None
    digest: str = ""
    max_message_size: int = 0
    directory: str = ""

    def __post_init__(self) -> None:
        check_int("protocol version", self.protocol, 1, 255)
        check_text("bus name", self.bus, _MAX_BUS)
        check_instance(self.instance)
        check_text("service name", self.service, _MAX_SERVICE)
        check_text("process name", self.process, _MAX_PROCESS)
        check_text("host name", self.host, _MAX_HOST)
        check_text("key fingerprint", self.fingerprint, MAX_FINGERPRINT, empty=True)
        check_endpoints(self.rpc_port, self.event_port, self.addresses)
        if self.apis is not None:
            self._derive_from_apis(self.apis)
        if self.api_names is not None:
            check_names("API names", self.api_names)
        check_text("digest of the API set", self.digest, MAX_DIGEST, empty=True)
        check_text("directory of the sockets", self.directory, _MAX_DIRECTORY, empty=True)
        check_int("size of a message", self.max_message_size, 0, 2**63 - 1)

    def _derive_from_apis(self, apis: tuple[ApiInfo, ...]) -> None:
        count = sum(len(api.procedures) + len(api.events) for api in apis)
        size = sum(len(name) for api in apis for name in (api.name, *api.procedures, *api.events))
        if count > MAX_NAMES or size > MAX_NAME_CHARACTERS:
            raise InvalidConfiguration(
                f"there are {count} procedures and events, of {size} characters in all; at most {MAX_NAMES} and "
                f"{MAX_NAME_CHARACTERS} can be announced"
            )
        names = tuple(api.name for api in apis)
        if self.api_names not in (None, names):
            raise InvalidConfiguration("the API names differ from the names of the APIs")
        # The only way to set a field of a frozen dataclass in `__post_init__`.
        object.__setattr__(self, "api_names", names)
        if not self.digest:
            object.__setattr__(self, "digest", compute_digest(apis))

    def __str__(self) -> str:
        return f"{self.service} {self.instance[:4]}… on host {self.host}"

    @property
    def on_host_only(self) -> bool:
        """Whether it has no TCP port: a peer in mode host, or one that only connects."""
        return self.rpc_port == 0

    def to_txt(self) -> dict[bytes, bytes]:
        """Return the pairs of the TXT record: at most 400 bytes in all, with the API names only if they fit."""
        pairs = {
            b"v": str(self.protocol).encode(),
            b"bus": self.bus.encode(),
            b"id": self.instance.encode(),
            b"svc": self.service.encode(),
            b"proc": self.process.encode(),
            b"host": self.host.encode(),
            b"pub": str(self.event_port).encode(),
        }
        optional = {b"fp": self.fingerprint.encode(), b"h": self.digest.encode()}
        pairs.update({key: value for key, value in optional.items() if value})
        over = _txt_size(pairs) - MAX_TXT_BYTES
        if over > 0:
            pairs[b"proc"] = shorten(self.process, len(pairs[b"proc"]) - over).encode()
        if self.api_names is not None:
            names = ",".join(self.api_names).encode()
            size = len(b"apis=") + len(names)
            if size <= MAX_PAIR_BYTES and _txt_size(pairs) + 1 + size <= MAX_TXT_BYTES:
                pairs[b"apis"] = names
        directory = {b"dir": self.directory.encode()}
        if self.directory and _txt_size(pairs) + _txt_size(directory) <= MAX_TXT_BYTES:
            pairs.update(directory)
        return pairs

    @classmethod
    def from_txt(cls, properties: Mapping[bytes, bytes | None], *, port: int, addresses: Sequence[str]) -> Announcement:
        """
        Read a TXT record; `port` is that of the SRV record, `addresses` those of its A records.

        Port 0 means mode host; then the addresses are ignored: the record has one only to be complete.

        Raises:
            ProtocolError: it is not an announcement of this protocol; the message gives the reason.

        """
        with reading("the TXT record of an announcement"):
            size = _txt_size(properties)
            if size > MAX_FOREIGN_TXT_BYTES:
                raise ProtocolError(f"the TXT record has {size} bytes; at most {MAX_FOREIGN_TXT_BYTES} are read")
            names = _txt_text(properties, b"apis")
            return cls(
                protocol=_txt_int(properties, b"v"),
                bus=_txt_text(properties, b"bus"),
                instance=_txt_text(properties, b"id"),
                service=_txt_text(properties, b"svc"),
                process=_txt_text(properties, b"proc"),
                host=_txt_text(properties, b"host"),
                addresses=tuple(addresses) if port else (),
                rpc_port=port,
                event_port=_txt_int(properties, b"pub"),
                fingerprint=_txt_text(properties, b"fp"),
                digest=_txt_text(properties, b"h"),
                directory=_txt_text(properties, b"dir"),
                api_names=None if properties.get(b"apis") is None else tuple(names.split(",")) if names else (),
            )

    def to_wire(self) -> dict[str, Any]:
        """Return the map for HELLO and INFO replies: plain msgpack values, all fields in full."""
        wire: dict[str, Any] = {
            "v": self.protocol,
            "bus": self.bus,
            "id": self.instance,
            "svc": self.service,
            "proc": self.process,
            "host": self.host,
            "addr": list(self.addresses),
            "rpc": self.rpc_port,
            "pub": self.event_port,
            "fp": self.fingerprint,
            "h": self.digest,
            "max": self.max_message_size,
        }
        if self.directory:
            wire["dir"] = self.directory
        if self.apis is not None:
            wire["apis"] = [api.to_wire() for api in self.apis]
        elif self.api_names is not None:
            wire["names"] = list(self.api_names)
        return wire

    @classmethod
    def from_wire(cls, value: object, known: Announcement | None = None) -> Announcement:
        """
        Read the output of `to_wire`. Raises ProtocolError, with the reason, for anything else.

        If `value` equals the `known` announcement, that is returned: peers repeat theirs with each heartbeat, and pass
        on those of all others, while reading and checking takes twenty times as long.
        """
        if known is not None and _are_equal(value, known.to_wire()):
            return known
        with reading("the announcement of a peer"):
            if not isinstance(value, dict):
                raise ProtocolError(f"the announcement of a peer is of type {type(value).__name__}, not a map")
            field: dict[Any, Any] = value
            apis, names = field.get("apis"), field.get("names")
            return cls(
                protocol=field.get("v", 0),
                bus=field.get("bus", ""),
                instance=field.get("id", ""),
                service=field.get("svc", ""),
                process=field.get("proc", ""),
                host=field.get("host", ""),
                addresses=as_tuple("addresses", field.get("addr", ())),
                rpc_port=field.get("rpc", 0),
                event_port=field.get("pub", 0),
                fingerprint=field.get("fp", ""),
                digest=field.get("h", ""),
                directory=field.get("dir", ""),
                max_message_size=field.get("max", 0),
                api_names=None if names is None or apis is not None else as_tuple("API names", names),
                apis=None if apis is None else tuple(ApiInfo.from_wire(api) for api in as_tuple("APIs", apis)),
            )


def new_instance_id() -> InstanceId:
    """Return a new instance id: 64 random bits from the operating system."""
    return os.urandom(8).hex()


def shorten(text: str, limit: int) -> str:
    """Return `text` in at most `limit` (>= 1) bytes of UTF-8, with a `~` at its end if it was cut."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 1].decode(errors="ignore") + "~"


def _are_equal(received: object, wire: dict[str, Any]) -> bool:
    try:
        return received == wire
    except ArithmeticError:  # raised by a Decimal that is a signaling NaN
        return False


def _txt_size(properties: Mapping[bytes, bytes | None]) -> int:
    """Return the size of a TXT record: a length byte and `key=value`, or the key alone (RFC 6763 section 6.4), each."""
    return sum(1 + len(key) + (0 if value is None else 1 + len(value)) for key, value in properties.items())


def _txt_text(properties: Mapping[bytes, bytes | None], key: bytes) -> str:
    try:
        return (properties.get(key) or b"").decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"the value of '{key.decode()}' in a TXT record is not UTF-8") from error


def _txt_int(properties: Mapping[bytes, bytes | None], key: bytes) -> int:
    value = properties.get(key) or b""
    if not value.isdigit() or len(value) > 5:
        raise ProtocolError(f"the value of '{key.decode()}' in a TXT record is {value[:40]!r}, not a number")
    return int(value)
