"""The kinds of values of settings: seconds, ports, names, peers, lists. Each refuses invalid values.

The text of a validator's error is a phrase ("must be ...") or a clause that follows the setting's name; `problems` puts
the key and its origin in front.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from ..exceptions import InvalidConfiguration
from . import names
from .keys import parse_keys
from .sections import ValueKind, after, before
from .surroundings import expand_home

__all__ = [
    "ADDRESSES",
    "BUS_KEYS",
    "BUS_NAME",
    "COUNT",
    "DIRECTORY",
    "LIMIT",
    "MESSAGE_SIZE",
    "NAME",
    "PEERS",
    "PORT",
    "SECONDS",
    "SRV_SCHEME",
    "SWITCH",
    "TEXT",
    "WAIT",
    "Secret",
    "choice",
    "not_a_bool",
    "split",
]

_BUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SRV_SCHEME = "srv+lightbus://"
"""The prefix of a peer setting that is the name of an SRV record."""

_SRV_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/@\[\]]+):(\d{1,5})")


def split(value: Any) -> Any:
    """Split `"a, b"` into a list of two: an environment variable can hold a list in no other way."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def not_a_bool(value: Any) -> Any:
    """Return the value given for a number. Raises ValueError for a bool."""
    if isinstance(value, bool):  # `rpc_timeout: yes` would quietly become one second
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


def _name(value: str) -> str:
    problem = names.problem_with(value)
    if problem is not None:
        raise ValueError(problem)
    return value


def _bus_name(value: str) -> str:
    if len(value) > names.MAX_NAME_LENGTH or not _BUS_NAME.fullmatch(value):
        raise ValueError(
            f"must be 1 to {names.MAX_NAME_LENGTH} of A-Z a-z 0-9 _ . - and begin with a letter or digit, not {value!r}"
        )
    return value


def _address(value: str) -> str:
    if value.split() != [value]:
        raise ValueError(f"must be the name or the address of an interface, not {value!r}")
    return value


def _peer(value: str) -> str:
    """Validate a peer and return it unchanged. A transport makes an endpoint of it (`Addressing.fixed_peer`)."""
    if value.startswith(SRV_SCHEME):
        return _service(value)
    scheme, _, rest = value.partition("://") if "://" in value else ("tcp", "", value)
    if scheme == "ipc" and rest.startswith("/") and rest != "/" and value.isprintable():
        return value
    match = _HOST_AND_PORT.fullmatch(rest) if scheme == "tcp" else None
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError(f"must be host:port (as in 10.0.0.7:5570), tcp://host:port or ipc:///path, not {value!r}")
    return value


def _service(value: str) -> str:
    """Validate peers given by an SRV record, which has the ports; return the value unchanged."""
    name = value.removeprefix(SRV_SCHEME)
    if not _SRV_NAME.fullmatch(name) or ".." in name:
        raise ValueError(
            f"must be srv+lightbus://name, without a port, which the SRV record has, not {value!r}. The name is that "
            "of a record (_rpc._tcp.auth.example), or what comes after _lightbus._tcp. in one (auth.example)"
        )
    if importlib.util.find_spec("dns") is None:
        raise ValueError(
            f"is {value!r}, and SRV records need the package dnspython: pip install 'lightbus[srv]'. Without it, name "
            "hosts: host:port"
        )
    return value


class Secret:
    """A string hidden from logs and tracebacks."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """Return the string."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('**********')"


def _bus_keys(value: Any) -> tuple[Secret, ...]:
    """Parse a string with keys, or a list of such strings. Error texts show no part of a key."""
    parts = value if isinstance(value, list | tuple) else [value]
    texts = [part.get_secret_value() if isinstance(part, Secret) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("must be a bus key, as `lightbus keys init` makes one, or a list of them")
    return tuple(Secret(key.text) for key in parse_keys("\n".join(texts)))


def _path(value: Any) -> Path:
    try:
        return Path(value)
    except TypeError:
        from pydantic_core import PydanticCustomError  # here: a rare case, which needs pydantic's core anyway

        raise PydanticCustomError("path_type", "Input is not a valid path") from None


def _directory(value: Path) -> Path:
    try:
        return expand_home(value).absolute()  # a later chdir must not move it
    except InvalidConfiguration as error:
        raise ValueError(str(error)) from None


def choice(*words: str) -> ValueKind:
    """Return the kind of a value that is one of these words."""
    return ValueKind({"type": "literal", "expected": list(words)}, {"type": "string", "enum": list(words)})


def _number(kind: str, *, least: float | None = None, above: float | None = None, most: int | None = None) -> ValueKind:
    bounds = {"ge": least, "gt": above, "le": most}
    core = {"type": kind, **{name: bound for name, bound in bounds.items() if bound is not None}}
    if kind == "float":
        core["allow_inf_nan"] = False
    in_json = {"minimum": least, "exclusiveMinimum": above, "maximum": most}
    json = {name: bound for name, bound in in_json.items() if bound is not None}
    return before(not_a_bool, ValueKind(core, {"type": "number" if kind == "float" else "integer", **json}))


def _list_of(kind: ValueKind) -> ValueKind:
    json = {"type": "array", "items": kind.json}
    return before(
        split, ValueKind({"type": "list", "items_schema": kind.core}, json), json={"anyOf": [json, kind.json]}
    )


TEXT = ValueKind({"type": "str"}, {"type": "string"})
SWITCH = ValueKind({"type": "bool"}, {"type": "boolean"})
"""True or false."""

NAME = after(_name, TEXT)
"""A service's or process's name, as a template (see `names.expand`)."""

BUS_NAME = after(_bus_name, TEXT)
"""The name of a bus: part of paths, of announcements and of log lines."""

SECONDS = _number("float", above=0)
"""A time in seconds, above 0."""

WAIT = _number("float", least=0)
"""A time in seconds; 0 means not to wait."""

COUNT = _number("int", least=0)
"""A whole number, 0 or more."""

LIMIT = _number("int", least=1)
"""An upper limit: a whole number, 1 or more."""

MESSAGE_SIZE = _number("int", least=1024)
"""The most bytes of a message; with less than 1024, peers could not even exchange HELLO."""

PORT = _number("int", least=0, most=65535)
"""A TCP port; 0 means any free port."""

ADDRESSES = _list_of(after(_address, TEXT))
"""Names or addresses of network interfaces; a string is split at its commas."""

PEERS = _list_of(after(_peer, TEXT))
"""Fixed peers; a string is split at its commas."""

BUS_KEYS = ValueKind({"type": "function-plain", "function": {"type": "no-info", "function": _bus_keys}}, PEERS.json)
"""Bus keys, hidden from logs and tracebacks; a string is split at commas and blanks."""

_PATH = {"type": "function-plain", "function": {"type": "no-info", "function": _path}}
DIRECTORY = after(_directory, ValueKind(_PATH, {"type": "string", "format": "path"}))
"""A directory, made absolute, `~` expanded. It need not exist."""
