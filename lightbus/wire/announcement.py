"""
What a peer says of itself: the TXT record of its announcement, and the value in its HELLO and INFO replies.

Knows both forms and their limits, and nothing of who sends them: everything that comes in is a stranger's word
until the peer itself has answered HELLO, so each field has a bound. Whom to believe is the registry's business.

A TXT record (DNS-SD, RFC 6763 section 6) has the keys

    v     protocol version         proc  process name, shortened if need be    fp    fingerprint of its key
    bus   bus name                 host  host name                             h     digest of the API set
    id    instance id              pub   port of its events, 0 in mode host    apis  API names, comma-separated,
    svc   service name                                                               only while they all fit
    dir   directory of its sockets in mode host, if it fits

and the port of its calls is the one of the SRV record. The value in HELLO and INFO is a map with the same keys, and
`rpc` and `addr` beside them; there `apis` is a list of whole `ApiInfo`s, and `names` stands for it where only the
names are known. Unknown keys are a later version's, and are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..exceptions import InvalidConfiguration, ProtocolError
from ..typing import InstanceId

__all__ = [
    "MAX_ADDRESSES",
    "MAX_APIS",
    "MAX_FOREIGN_TXT_BYTES",
    "MAX_TXT_BYTES",
    "PROTOCOL_VERSION",
    "Announcement",
    "ApiInfo",
    "compute_digest",
    "new_instance_id",
    "shorten",
]

PROTOCOL_VERSION = 1

MAX_TXT_BYTES = 400
"""Bytes of the TXT record we write: with its other records an announcement then stays within one 1500-byte packet."""

MAX_FOREIGN_TXT_BYTES = 1024
"""Bytes of a TXT record we are willing to read: room for later versions, and none for a flood."""

MAX_PAIR_BYTES = 255
"""Bytes of `key=value`: its length is a single byte (RFC 6763 section 6.1)."""

MAX_ADDRESSES = 16
"""Addresses of one peer: each may be dialled, so this is what one stranger can make us open."""

MAX_APIS = 1024
"""APIs of one peer, and procedures or events of one API."""

MAX_NAMES = 8192
MAX_NAME_CHARACTERS = 256 * 1024
"""Procedures and events of all APIs of one peer, and characters of their names: each peer is kept in memory."""

# In bytes of UTF-8. Together they leave at least 17 bytes of MAX_TXT_BYTES for the process name, the only one
# that is ever shortened: no decision depends on it.
_MAX_BUS = 64
_MAX_SERVICE = 128
_MAX_PROCESS = 64
_MAX_HOST = 64  # Linux: HOST_NAME_MAX
_MAX_FINGERPRINT = 48
_MAX_DIGEST = 16
_MAX_DIRECTORY = 107  # unix(7): no socket has a longer path
_MAX_NAME = 128
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiInfo:
    """
    One API of a peer.

    Attributes:
        version: `Meta.version` of the Api class.
        internal: whether it is hidden from listings (`Meta.internal`).
        digest: digest of its schema; empty while unknown.
        best_effort: those of `events` that are not journaled.
        keeps: whether it only serves what ended processes of the API's own service left behind: it takes no calls and
            no events of it.

    Raises:
        InvalidConfiguration: a name or a number that cannot be announced.

    """

    name: str
    procedures: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    version: int = 1
    internal: bool = False
    digest: str = ""
    best_effort: tuple[str, ...] = ()
    keeps: bool = False

    def __post_init__(self) -> None:
        _check_name("API name", self.name)
        _check_names(f"procedures of {self.name}", self.procedures)
        _check_names(f"events of {self.name}", self.events)
        _check_names(f"best-effort events of {self.name}", self.best_effort)
        _check_int(f"version of {self.name}", self.version, 0, 2**31 - 1)
        _check_text(f"schema digest of {self.name}", self.digest, _MAX_FINGERPRINT, empty=True)
        if type(self.internal) is not bool:
            raise InvalidConfiguration(f"the mark 'internal' of {self.name} is {self.internal!r:.40}, no boolean")
        if type(self.keeps) is not bool:
            raise InvalidConfiguration(f"the mark 'keeps' of {self.name} is {self.keeps!r:.40}, no boolean")
        if not set(self.best_effort) <= set(self.events):
            raise InvalidConfiguration(f"the best-effort events of {self.name} are not all among its events")

    def __str__(self) -> str:
        return f"{self.name} ({len(self.procedures)} procedures, {len(self.events)} events)"

    def to_wire(self) -> list[Any]:
        """Return the fields in order, as plain msgpack values."""
        return [
            self.name,
            list(self.procedures),
            list(self.events),
            self.version,
            self.internal,
            self.digest,
            list(self.best_effort),
            *([True] if self.keeps else []),
        ]

    @classmethod
    def from_wire(cls, value: object) -> ApiInfo:
        """Read what `to_wire` wrote; items after the eighth are a later version's. Raise ProtocolError."""
        with _reading("the description of an API"):
            items = _as_tuple("fields of an API", value)
            if len(items) < 7:
                raise ProtocolError(f"the description of an API has {len(items)} items instead of 7")
            name, procedures, events, version, internal, digest, best_effort, *more = items
            return cls(
                name=name,
                procedures=_as_tuple("procedures", procedures),
                events=_as_tuple("events", events),
                version=version,
                internal=internal,
                digest=digest,
                best_effort=_as_tuple("best-effort events", best_effort),
                keeps=bool(more) and more[0] is True,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """
    What a peer says of itself. As long as it has not answered HELLO with this `instance`, it is hearsay.

    Attributes:
        instance: 16 lowercase hexadecimal digits, new at each start of the process.
        host: its host name, to tell "same host".
        directory: where its sockets are, in mode host; empty where it is not known.
        addresses: IP addresses it can be dialled at, as it prefers them; empty in mode host.
        rpc_port, event_port: TCP ports; both 0 in mode host, where sockets are files named after the instance.
        fingerprint: of its key, and never the key itself; empty without keys.
        api_names: the APIs it advertises; None means they did not fit into the TXT record, so ask the peer.
        apis: the same in full; None until the peer itself has told us. Given, it also says `api_names` and `digest`.
        digest: digest of the API set (`compute_digest`).
        max_message_size: bytes that a message to it may have; 0 until the peer itself has told us.

    Raises:
        InvalidConfiguration: a field that cannot be announced; the message names it.

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
        _check_int("protocol version", self.protocol, 1, 255)
        _check_text("bus name", self.bus, _MAX_BUS)
        _check_instance(self.instance)
        _check_text("service name", self.service, _MAX_SERVICE)
        _check_text("process name", self.process, _MAX_PROCESS)
        _check_text("host name", self.host, _MAX_HOST)
        _check_text("key fingerprint", self.fingerprint, _MAX_FINGERPRINT, empty=True)
        _check_endpoints(self.rpc_port, self.event_port, self.addresses)
        if self.apis is not None:
            self._derive_from_apis(self.apis)
        if self.api_names is not None:
            _check_names("API names", self.api_names)
        _check_text("digest of the API set", self.digest, _MAX_DIGEST, empty=True)
        _check_text("directory of the sockets", self.directory, _MAX_DIRECTORY, empty=True)
        _check_int("size of a message", self.max_message_size, 0, 2**63 - 1)

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
        # The one way to fill a field of a frozen dataclass at birth.
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

        Port 0 means mode host, and then the addresses are not taken: a record needs one to be complete at all.

        Raises:
            ProtocolError: it is no announcement of ours; the message says what is wrong.

        """
        with _reading("the TXT record of an announcement"):
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
        """Return the map for HELLO and INFO replies: plain msgpack values, everything in full."""
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
    def from_wire(cls, value: object) -> Announcement:
        """Read what `to_wire` wrote. Raise ProtocolError, with what is wrong, for anything else."""
        with _reading("what a peer says of itself"):
            if not isinstance(value, dict):
                raise ProtocolError(f"what a peer says of itself is of type {type(value).__name__}, not a map")
            field: dict[Any, Any] = value
            apis, names = field.get("apis"), field.get("names")
            return cls(
                protocol=field.get("v", 0),
                bus=field.get("bus", ""),
                instance=field.get("id", ""),
                service=field.get("svc", ""),
                process=field.get("proc", ""),
                host=field.get("host", ""),
                addresses=_as_tuple("addresses", field.get("addr", ())),
                rpc_port=field.get("rpc", 0),
                event_port=field.get("pub", 0),
                fingerprint=field.get("fp", ""),
                digest=field.get("h", ""),
                directory=field.get("dir", ""),
                max_message_size=field.get("max", 0),
                api_names=None if names is None or apis is not None else _as_tuple("API names", names),
                apis=None if apis is None else tuple(ApiInfo.from_wire(api) for api in _as_tuple("APIs", apis)),
            )


def new_instance_id() -> InstanceId:
    """Return a fresh instance id: 64 random bits from the operating system."""
    return os.urandom(8).hex()


def compute_digest(apis: Sequence[ApiInfo]) -> str:
    """Return 16 hexadecimal digits that differ when the API set differs; the order of anything does not matter."""
    import hashlib  # a process that only calls announces nothing

    digest = hashlib.sha256()
    for api in sorted(apis, key=lambda api: api.name):
        lists = (sorted(names) for names in (api.procedures, api.events, api.best_effort))
        digest.update(repr((api.name, *lists, api.version, api.internal, api.digest)).encode())
    return digest.hexdigest()[:_MAX_DIGEST]


def shorten(text: str, limit: int) -> str:
    """Return `text` in at most `limit` (>= 1) bytes of UTF-8, with a `~` at its end where something was cut off."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 1].decode(errors="ignore") + "~"


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn the InvalidConfiguration with which a value refuses its birth into a ProtocolError: a peer sent it."""
    try:
        yield
    except InvalidConfiguration as error:
        raise ProtocolError(f"{what} cannot be read: {error}") from error


def _check_text(what: str, value: object, limit: int, *, empty: bool = False) -> None:
    if not isinstance(value, str):
        raise InvalidConfiguration(f"the {what} is of type {type(value).__name__}, not text")
    if not value and not empty:
        raise InvalidConfiguration(f"the {what} is missing")
    if not value.isprintable():
        raise InvalidConfiguration(f"the {what} {value!a:.80} contains characters that cannot be printed")
    if len(value) > limit or len(value.encode()) > limit:
        raise InvalidConfiguration(f"the {what} '{value:.40}...' is longer than {limit} bytes; choose a shorter one")


def _check_instance(value: object) -> None:
    if not isinstance(value, str) or len(value) != 16 or not _HEX.issuperset(value):
        raise InvalidConfiguration(f"the instance id {value!r:.40} is not 16 lowercase hexadecimal digits")


def _check_name(what: str, value: object) -> None:
    _check_text(what, value, _MAX_NAME)
    if not {" ", ","}.isdisjoint(str(value)):  # names are separated by commas in TXT and by spaces on the screen
        raise InvalidConfiguration(f"the {what} '{value}' contains a space or a comma")


def _check_names(what: str, names: tuple[object, ...]) -> None:
    if len(names) > MAX_APIS:
        raise InvalidConfiguration(f"there are {len(names)} {what}; at most {MAX_APIS} can be announced")
    for name in names:
        _check_name(f"name among the {what}", name)
    if len(set(names)) != len(names):
        raise InvalidConfiguration(f"there are names more than once among the {what}")


def _check_int(what: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:  # a bool is an int, but no number of ours
        raise InvalidConfiguration(f"the {what} is {value!r:.40}, not a number from {low} to {high}")


def _check_endpoints(rpc_port: int, event_port: int, addresses: tuple[str, ...]) -> None:
    _check_int("port for calls", rpc_port, 0, 65535)
    _check_int("port for events", event_port, 0, 65535)
    if len(addresses) > MAX_ADDRESSES:
        raise InvalidConfiguration(f"there are {len(addresses)} addresses; at most {MAX_ADDRESSES} can be announced")
    if (rpc_port == 0) != (event_port == 0) or (rpc_port == 0) != (not addresses):
        raise InvalidConfiguration(
            f"the ports {rpc_port} (calls) and {event_port} (events) do not go with {len(addresses)} addresses;"
            " a peer has all three, or none of them (mode host)"
        )
    for address in addresses:
        _check_address(address)


def _check_address(address: object) -> None:
    from ipaddress import ip_address  # only where there are addresses: not in mode host

    try:
        parsed = ip_address(str(address))
    except ValueError:
        raise InvalidConfiguration(f"the address {address!r:.60} is not an IP address") from None
    # "Any" would be our own host, and nobody can be dialled at a multicast or broadcast address.
    if parsed.is_unspecified or parsed.is_multicast or str(parsed) != address or address == "255.255.255.255":
        raise InvalidConfiguration(f"the address {address!r:.60} is not one that a single host can be dialled at")


def _as_tuple(what: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ProtocolError(f"the {what} of a peer are of type {type(value).__name__}, not a list")
    if len(value) > MAX_APIS:
        raise ProtocolError(f"a peer has {len(value)} {what}; at most {MAX_APIS} are read")
    return tuple(value)


def _txt_size(properties: Mapping[bytes, bytes | None]) -> int:
    """Each pair is a length byte, and then `key=value`, or the key alone (RFC 6763 section 6.4)."""
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
