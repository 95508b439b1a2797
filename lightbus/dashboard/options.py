"""How the dashboard is to be served, and who may do what."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..web.hosts import is_local, url_of
from ..web.tokens import new_token

__all__ = ["DashboardOptions"]


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
    token: str = field(default_factory=new_token, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether only this host can connect."""
        return is_local(self.address)

    @property
    def trusts_own_user(self) -> bool:
        """Whether this user needs no token: only where nothing can stand between the browser and us."""
        return self.is_local and not self.names

    def url(self, port: int) -> str:
        """Return where the page is."""
        return url_of(self.address, port)
