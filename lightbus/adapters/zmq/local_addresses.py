"""The addresses of its host that a process listens at, as interfaces come and go; `adapters/host` asks the system."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ...exceptions import TransportError
from ..host.interfaces import networks_of

__all__ = ["LOOK_EVERY", "LocalAddresses"]

logger = logging.getLogger("lightbus.binding")

LOOK_EVERY = 2.0
"""Seconds between two checks. A change counts if both see it: while an address is renewed, it is gone for a moment."""


class LocalAddresses:
    """
    The addresses of one process. Only touched from the node's loop.

    Args:
        addresses: the addresses at the start; none in mode host, for which nothing is checked.
        look: returns the addresses to use, given the present ones (`adapters.host.interfaces.follow_addresses`).

    """

    def __init__(self, addresses: Sequence[str] = (), look: Callable[[Sequence[str]], tuple[str, ...]] = tuple) -> None:
        self.addresses = tuple(addresses)
        self._look = look
        self._seen = self.addresses
        self._look_at = 0.0

    @property
    def networks(self) -> tuple[str, ...]:
        """
        Our addresses with their prefix length, `"192.0.2.7/24"`: peers in these networks are dialled first.

        Empty in mode host, and while the operating system does not list them.
        """
        try:
            return networks_of(self.addresses) if self.addresses else ()
        except TransportError as error:
            logger.debug("%s", error)
            return ()

    def have_changed(self, now: float) -> bool:
        """Check, if it is due; return whether the addresses have changed."""
        if not self.addresses or now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        try:
            before, self._seen = self._seen, self._look(self.addresses)
        except TransportError as error:  # no descriptor is free, for example: keep the addresses
            logger.debug("%s", error)
            return False
        if self._seen == self.addresses or self._seen != before:
            return False
        self.addresses = self._seen
        return True
