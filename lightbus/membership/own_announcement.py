"""What this process says of itself to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..wire.announcement import Announcement
from ..wire.api_info import ApiInfo
from ..wire.envelope import Hello
from .context import Identity

__all__ = ["OwnAnnouncement"]


class OwnAnnouncement:
    """
    What we announce: nothing, unless this process becomes a worker. Only touched from the node's loop.

    Args:
        identity: who we are.
        max_message_size: bytes that a message to us may have.

    Attributes:
        current: what a worker announces, once it `is_public`.

    """

    def __init__(self, identity: Identity, max_message_size: int) -> None:
        self.current = Announcement(
            bus=identity.bus,
            instance=identity.instance,
            service=identity.service,
            process=identity.process,
            host=identity.host,
            apis=(),
        )
        self.is_public = False
        self._max_message_size = max_message_size

    @property
    def told_to_others(self) -> Announcement:
        """What is answered to whoever finds us: no API before we are ready."""
        return self.current if self.is_public else self._with_apis(())

    def change_apis(self, apis: Sequence[ApiInfo]) -> None:
        """Announce these APIs from now on."""
        self.current = self._with_apis(apis)

    def hello(self, target: str, peers_digest: str) -> Hello:
        """Return what to introduce ourselves with to an instance, or to whoever is there."""
        me = self.current
        announcement = me.to_wire() if self.is_public else None
        return Hello(
            me.bus, target, me.instance, me.service, me.process, peers_digest, announcement, self._max_message_size
        )

    def _with_apis(self, apis: Sequence[ApiInfo]) -> Announcement:
        return replace(self.current, apis=tuple(apis), api_names=None, digest="")
