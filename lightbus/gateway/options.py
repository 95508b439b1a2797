"""The options of the gateway: where it listens, its access rules, and its clients."""

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
    The options from the command line.

    Attributes:
        rules: the access rules.
        clients: the clients that may send requests.
        address: the address to listen on.
        port: the port; 0 for any free one.
        names: further accepted host names, as those of a proxy in front.
        origins: sites whose pages may send requests from a browser: `https://shop.example`.
        rate: the most requests a second of each client; 0 for no limit.
        max_body: the most bytes of a request's body.

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
        """Return whether a client may perform an action on a member."""
        return self.rules.allow(permission, api, member) and client.may(permission, api, member)


def clients_of_this_start(address: str) -> Clients:
    """Return a client with a new token. Raises InvalidConfiguration if other hosts can connect to the address."""
    if not is_local(address):
        raise InvalidConfiguration(
            f"The gateway would listen at {address}, where other hosts can connect: name its clients by "
            "--token-file FILE, with a name and a token on each line."
        )
    return Clients([Client(name="local", token=new_token())])


def check_origin(origin: str) -> str:
    """Return an origin as browsers write it. Raises InvalidConfiguration for any other text."""
    scheme, separator, rest = origin.lower().rstrip("/").partition("://")
    if scheme not in ("http", "https") or not separator or not rest or any(each in rest for each in "/*?#@ "):
        raise InvalidConfiguration(f"{origin!r:.100} is not an origin. Write a scheme and a host: https://shop.example")
    return f"{scheme}://{rest}"
