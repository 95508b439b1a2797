"""The options of the dashboard: where it is served, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..web.hosts import is_local, url_of
from ..web.tokens import new_token

__all__ = ["DashboardOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardOptions:
    """
    The options from the command line.

    Attributes:
        address: the address to listen at.
        port: the port; 0 for any free one.
        actions: whether the page may change anything or make calls.
        names: further host names that browsers may use, such as those of a proxy in front.
        token: the token that is needed by everyone but this user on this host.

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
        """Whether this user needs no token: only if there can be no proxy between the browser and us."""
        return self.is_local and not self.names

    def url(self, port: int) -> str:
        """Return the address of the page."""
        return url_of(self.address, port)
