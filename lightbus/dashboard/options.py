"""How the dashboard is to be served, and who may do what."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

from ..exceptions import InvalidConfiguration

__all__ = ["LEAST_TOKEN", "DashboardOptions", "read_token"]

LEAST_TOKEN = 16
"""Characters that a token has at least: it must not be guessed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """
    What the command line says.

    Attributes:
        address: the address that is listened at.
        port: the port; 0 for any that is free.
        actions: whether the page may do what changes something, calls included.
        names: host names besides the usual by which browsers may ask, as a proxy in front has them.
        token: what has to be known by who is not this very user on this host.

    """

    address: str = "127.0.0.1"
    port: int = 8420
    actions: bool = False
    names: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def is_local(self) -> bool:
        """Whether only this host can connect."""
        return self.address == "localhost" or _is_loopback(self.address)

    @property
    def trusts_own_user(self) -> bool:
        """Whether this user needs no token: only where nothing can stand between the browser and us."""
        return self.is_local and not self.names

    def url(self, port: int) -> str:
        """Return where the page is."""
        address = socket.gethostname() if self.address in ("0.0.0.0", "::") else self.address
        return f"http://{f'[{address}]' if ':' in address else address}:{port}/"


def read_token(path: Path) -> str:
    """Return the token that a file holds. Raises InvalidConfiguration where it holds none."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"The token file {path} cannot be read: {error}") from error
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidConfiguration(
            f"The token file {path} holds no token: it takes {LEAST_TOKEN} or more ASCII characters without spaces. "
            f'Make one: python3 -c "import secrets; print(secrets.token_urlsafe(24))" > {path}'
        )
    if path.stat().st_mode & 0o077:
        raise InvalidConfiguration(f"Others may read the token file {path}. Keep it to yourself: chmod 600 {path}")
    return token


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
