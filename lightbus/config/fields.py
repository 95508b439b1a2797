"""The kinds of values settings have: seconds, ports, names, peers, lists. Each refuses what cannot be one.

A validator says only what is wrong, in a phrase that follows the setting's name ("must be ...") or in a whole
clause; `problems` puts key and origin in front.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from . import names
from .keys import parse_keys

__all__ = [
    "SRV_SCHEME",
    "Addresses",
    "BusKeys",
    "BusName",
    "Count",
    "Directory",
    "Limit",
    "MessageSize",
    "Name",
    "Peers",
    "Port",
    "Seconds",
    "Wait",
    "split",
]

_BUS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SRV_SCHEME = "srv+lightbus://"
"""Before the name of peers that an SRV record leads to."""

_SRV_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/@\[\]]+):(\d{1,5})")


def split(value: Any) -> Any:
    """Take `"a, b"` for a list of two: an environment variable cannot say it otherwise."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _not_a_bool(value: Any) -> Any:
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
    """Return the ZeroMQ endpoint of a peer as people write it: `"10.0.0.7:5570"` becomes `"tcp://10.0.0.7:5570"`."""
    if value.startswith("ipc:///") and len(value) > len("ipc:///") and value.isprintable():
        return value
    if value.startswith(SRV_SCHEME):
        return _service(value)
    address = value.removeprefix("tcp://")
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError(f"must be host:port (as in 10.0.0.7:5570), tcp://host:port or ipc:///path, not {value!r}")
    return f"tcp://{address}"


def _service(value: str) -> str:
    """Return peers that are named by an SRV record, which has the ports."""
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


def _bus_keys(value: Any) -> tuple[SecretStr, ...]:
    """Take a text with keys, or a list of such. What is wrong is said without showing any of it."""
    parts = value if isinstance(value, list | tuple) else [value]
    texts = [part.get_secret_value() if isinstance(part, SecretStr) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("must be a bus key, as `lightbus keys init` makes one, or a list of them")
    return tuple(SecretStr(key.text) for key in parse_keys("\n".join(texts)))


def _directory(value: Path) -> Path:
    try:
        return value.expanduser().absolute()  # a later chdir must not move it
    except RuntimeError:
        raise ValueError(f"begins with ~, and there is no such home directory: {str(value)!r}") from None


# The last of an annotation's validators sees the value first; bounds in front of it apply to the number itself.
_NUMBER = BeforeValidator(_not_a_bool)
_COMMA_LIST = BeforeValidator(split, json_schema_input_type=list[str] | str)

Name: TypeAlias = Annotated[str, AfterValidator(_name)]
"""A service's or process's name, as a template (see `names.expand`)."""

BusName: TypeAlias = Annotated[str, AfterValidator(_bus_name)]
"""The name of a bus: part of paths, of announcements and of log lines."""

Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False), _NUMBER]
"""A time in seconds; none at all makes no sense."""

Wait: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False), _NUMBER]
"""A time in seconds; 0 means not to wait."""

Count: TypeAlias = Annotated[int, Field(ge=0), _NUMBER]
"""A whole number of things; there may be none."""

Limit: TypeAlias = Annotated[int, Field(ge=1), _NUMBER]
"""A whole number of things that there may be; with none at all nothing would work."""

MessageSize: TypeAlias = Annotated[int, Field(ge=1024), _NUMBER]
"""Bytes of one message; with fewer than these, peers could not even introduce themselves."""

Port: TypeAlias = Annotated[int, Field(ge=0, le=65535), _NUMBER]
"""A TCP port; 0 means any that is free."""

Addresses: TypeAlias = Annotated[list[Annotated[str, AfterValidator(_address)]], _COMMA_LIST]
"""Names or addresses of network interfaces; a string is split at its commas."""

Peers: TypeAlias = Annotated[list[Annotated[str, AfterValidator(_peer)]], _COMMA_LIST]
"""Endpoints of fixed peers; a string is split at its commas."""

BusKeys: TypeAlias = Annotated[
    tuple[SecretStr, ...], BeforeValidator(_bus_keys, json_schema_input_type=list[str] | str)
]
"""Bus keys, hidden from logs and tracebacks; a string is split at commas and blanks."""

Directory: TypeAlias = Annotated[Path, AfterValidator(_directory)]
"""A directory, made absolute, `~` expanded. It need not exist."""
