"""How the gateway is to be served, what of the bus is open, and to whom."""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import InvalidConfiguration
from ..web.hosts import is_local
from ..web.tokens import new_token
from .access import Permission, Rules
from .clients import Client, Clients

__all__ = ["GatewayOptions", "check_origin", "clients_of_this_start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """
    What the command line says.

    Attributes:
        rules: what is open.
        clients: who may ask.
        address: the address that is listened at.
        port: the port; 0 for any that is free.
        names: host names besides the usual by which clients may ask, as a proxy in front has them.
        origins: sites whose pages may ask from a browser: `https://shop.example`.
        rate: requests a second of each client; 0 for any number.
        max_body: bytes of a request's body.

    """

    rules: Rules
    clients: Clients
    address: str = "127.0.0.1"
    port: int = 8421
    names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    rate: float = 100.0
    max_body: int = 1024 * 1024

    def allow(self, client: Client, permission: Permission, api: str, member: str) -> bool:
        """Return whether a client may do something."""
        return self.rules.allow(permission, api, member) and client.may(permission, api, member)


def clients_of_this_start(address: str) -> Clients:
    """Return a client with a new token. Raises InvalidConfiguration where others than this host can connect."""
    if not is_local(address):
        raise InvalidConfiguration(
            f"The gateway would listen at {address}, where other hosts can connect: say who may, by --token-file FILE, "
            "with a name and a token on each line."
        )
    return Clients([Client(name="local", token=new_token())])


def check_origin(origin: str) -> str:
    """Return an origin as browsers write it. Raises InvalidConfiguration where it is none."""
    scheme, separator, rest = origin.lower().rstrip("/").partition("://")
    if scheme not in ("http", "https") or not separator or not rest or any(each in rest for each in "/*?#@ "):
        raise InvalidConfiguration(f"{origin!r:.100} is not an origin. Write a scheme and a host: https://shop.example")
    return f"{scheme}://{rest}"
