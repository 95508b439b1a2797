"""Limits the bytes of the event names that groups listen to: any peer can choose these names, and their number."""

from __future__ import annotations

from collections.abc import Iterable

from ...exceptions import PeerBusy

__all__ = ["MAX_BYTES", "MAX_BYTES_OF_GROUP", "NameBudget"]

MAX_BYTES_OF_GROUP = 256 * 1024
"""Bytes of the event names of one group."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of the event names of all groups: they are kept in memory, in each journal, and in each list of groups."""


class NameBudget:
    """The bytes that each group uses, by API and name. Only touched from one loop."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, str], int] = {}
        self._total = 0

    def take(self, api: str, group: str, names: Iterable[str], *, bounded: bool = True) -> None:
        """
        Record the events that a group listens to, in place of the previous ones.

        Args:
            api, group: the group.
            names: the names of the events.
            bounded: whether they may be refused; False if events are already kept for the group.

        Raises PeerBusy if the names take too many bytes; the previous ones then stay recorded.

        """
        size = sum(len(name.encode()) for name in names)
        before = self._sizes.get((api, group), 0)
        if bounded and size > MAX_BYTES_OF_GROUP:
            raise PeerBusy(
                f"the names of the events that the group {group} of {api} listens to take {size} bytes, and "
                f"{MAX_BYTES_OF_GROUP} is the most. Share the events out among several listeners, or listen to all "
                "of the API ('*')."
            )
        if bounded and size > before and self._total - before + size > MAX_BYTES:
            raise PeerBusy(
                f"the names of the events that {len(self._sizes)} groups listen to take {self._total} bytes already, "
                f"and {MAX_BYTES} is the most. Remove groups that are not needed: lightbus groups remove."
            )
        self._sizes[api, group] = size
        self._total += size - before

    def release(self, api: str, group: str) -> None:
        """Remove the names of a group."""
        self._total -= self._sizes.pop((api, group), 0)
