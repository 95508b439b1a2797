"""The checks of an announcement's fields: each raises with the reason, for any input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..exceptions import InvalidConfiguration, ProtocolError

__all__ = [
    "MAX_ADDRESSES",
    "MAX_APIS",
    "MAX_DIGEST",
    "MAX_FINGERPRINT",
    "as_tuple",
    "check_endpoints",
    "check_instance",
    "check_int",
    "check_name",
    "check_names",
    "check_text",
    "reading",
]

MAX_ADDRESSES = 16
"""Most addresses of one peer: we may connect to each, so this bounds the connections one stranger can cause."""

MAX_APIS = 1024
"""Most APIs of one peer, and most procedures or events of one API."""

MAX_FINGERPRINT = 48
MAX_DIGEST = 16
MAX_NAME = 128
_HEX = frozenset("0123456789abcdef")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn the InvalidConfiguration of an invalid value into a ProtocolError: a peer sent it."""
    try:
        yield
    except InvalidConfiguration as error:
        raise ProtocolError(f"{what} cannot be read: {error}") from error


def check_text(what: str, value: object, limit: int, *, empty: bool = False) -> None:
    """Raise InvalidConfiguration unless this is a printable text of at most `limit` bytes."""
    if not isinstance(value, str):
        raise InvalidConfiguration(f"the {what} is of type {type(value).__name__}, not text")
    if not value and not empty:
        raise InvalidConfiguration(f"the {what} is missing")
    if not value.isprintable():
        raise InvalidConfiguration(f"the {what} {value!a:.80} contains characters that cannot be printed")
    if len(value) > limit or len(value.encode()) > limit:
        raise InvalidConfiguration(f"the {what} '{value:.40}...' is longer than {limit} bytes; choose a shorter one")


def check_instance(value: object) -> None:
    """Raise InvalidConfiguration unless this is an instance id."""
    if not isinstance(value, str) or len(value) != 16 or not _HEX.issuperset(value):
        raise InvalidConfiguration(f"the instance id {value!r:.40} is not 16 lowercase hexadecimal digits")


def check_name(what: str, value: object) -> None:
    """Raise InvalidConfiguration unless this is a name that can be announced."""
    check_text(what, value, MAX_NAME)
    if not {" ", ","}.isdisjoint(str(value)):  # names are separated by commas in TXT and by spaces on the screen
        raise InvalidConfiguration(f"the {what} '{value}' contains a space or a comma")


def check_names(what: str, names: tuple[object, ...]) -> None:
    """Raise InvalidConfiguration unless these are names that can be announced, each once."""
    if len(names) > MAX_APIS:
        raise InvalidConfiguration(f"there are {len(names)} {what}; at most {MAX_APIS} can be announced")
    for name in names:
        check_name(f"name among the {what}", name)
    if len(set(names)) != len(names):
        raise InvalidConfiguration(f"there are names more than once among the {what}")


def check_int(what: str, value: object, low: int, high: int) -> None:
    """Raise InvalidConfiguration unless this is a number in a range, both ends included."""
    if type(value) is not int or not low <= value <= high:  # a bool is an int, and not accepted
        raise InvalidConfiguration(f"the {what} is {value!r:.40}, not a number from {low} to {high}")


def as_tuple(what: str, value: object) -> tuple[Any, ...]:
    """Return a received list as a tuple. Raises ProtocolError for anything else, and for a list that is too long."""
    if not isinstance(value, list | tuple):
        raise ProtocolError(f"the {what} of a peer are of type {type(value).__name__}, not a list")
    if len(value) > MAX_APIS:
        raise ProtocolError(f"a peer has {len(value)} {what}; at most {MAX_APIS} are read")
    return tuple(value)


def check_endpoints(rpc_port: int, event_port: int, addresses: tuple[str, ...]) -> None:
    """Raise InvalidConfiguration unless the ports and addresses are valid together."""
    check_int("port for calls", rpc_port, 0, 65535)
    check_int("port for events", event_port, 0, 65535)
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
    # "Any" would be our own host, and no connection is possible to a multicast or broadcast address. The zone after a %
    # has a meaning on its own host only, and may be any text.
    if (
        parsed.is_unspecified
        or parsed.is_multicast
        or str(parsed) != address
        or "%" in address
        or address == "255.255.255.255"
    ):
        raise InvalidConfiguration(f"the address {address!r:.60} is not one that a single host can be dialled at")
