"""Check the `Host` header of requests: another site may have pointed its own name at this host (DNS rebinding)."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from ..exceptions import InvalidConfiguration

__all__ = ["HostNames", "check_host_name", "host_of", "is_local", "url_of"]

MAX_SEEN = 100
"""The most accepted `Host` headers that are remembered."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")


class HostNames:
    """The accepted host names: those of this host, and `names`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._seen: set[str] = set()
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    def has(self, host: str) -> bool:
        """Return whether a `Host` header is accepted."""
        if host in self._seen:
            return True
        is_ours = self._is_ours(host)
        if is_ours and len(self._seen) < MAX_SEEN:
            self._seen.add(host)  # most clients send the same header each time
        return is_ours

    def _is_ours(self, host: str) -> bool:
        name = host_of(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._names
        return True  # an address cannot be rebound: the check of the origin finds foreign pages


def host_of(host: str) -> str | None:
    """Return the name or address in a `Host` header, in small letters; None where it is malformed."""
    match = _HOST.fullmatch(host)
    return None if match is None else match[1].lower()


def check_host_name(name: str) -> str:
    """Return a name that may be in a `Host` header. Raises InvalidConfiguration for any other text."""
    if host_of(name) != name.lower():
        raise InvalidConfiguration(
            f"{name!r:.100} is not a host name, and no request would have it: write it as bus.example, without a "
            "scheme, a port and a path."
        )
    return name


def is_local(address: str) -> bool:
    """Return whether only this host can connect to an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def url_of(address: str, port: int) -> str:
    """Return the URL of a server that listens on an address."""
    name = _own_name() if address in ("0.0.0.0", "::") else address
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


def _own_name() -> str:
    """Return the name of this host if it is valid in a URL, else `localhost`."""
    name = socket.gethostname()
    return name if host_of(name) else "localhost"
