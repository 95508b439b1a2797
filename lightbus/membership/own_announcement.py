"""The announcement of this process."""

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
    The announcement of this process; without APIs until it becomes a worker. Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        max_message_size: the largest message, in bytes, that this process takes.

    """

    def __init__(self, identity: Identity, max_message_size: int) -> None:
        self._current = Announcement(
            bus=identity.bus,
            instance=identity.instance,
            service=identity.service,
            process=identity.process,
            host=identity.host,
            apis=(),
        )
        self._is_public = False
        self._max_message_size = max_message_size

    @property
    def current(self) -> Announcement:
        """The announcement of the worker, sent once it `is_public`."""
        return self._current

    @property
    def is_public(self) -> bool:
        """Whether our APIs are announced."""
        return self._is_public

    def become(self, announcement: Announcement) -> None:
        """Set the announcement, as a worker."""
        self._current = announcement

    def publish(self) -> None:
        """Include our APIs from now on, for peers that ask or connect."""
        self._is_public = True

    def move(self, *, directory: str | None = None, addresses: tuple[str, ...] | None = None) -> None:
        """Announce a new directory or new addresses."""
        if directory is not None:
            self._current = replace(self._current, directory=directory)
        if addresses is not None:
            self._current = replace(self._current, addresses=addresses)

    @property
    def advertised(self) -> Announcement:
        """The announcement that peers get: without APIs until the worker is ready."""
        return self._current if self._is_public else self._with_apis(())

    def change_apis(self, apis: Sequence[ApiInfo]) -> None:
        """Replace the announced APIs."""
        self._current = self._with_apis(apis)

    def hello(self, target: str, peers_digest: str) -> Hello:
        """Return the HELLO for an instance; `target` is empty if the instance is unknown."""
        me = self._current
        announcement = me.to_wire() if self._is_public else None
        return Hello(
            me.bus, target, me.instance, me.service, me.process, peers_digest, announcement, self._max_message_size
        )

    def _with_apis(self, apis: Sequence[ApiInfo]) -> Announcement:
        return replace(self._current, apis=tuple(apis), api_names=None, digest="")
