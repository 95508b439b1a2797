"""How many bytes the names of the events may have that groups listen to: strangers choose them, and how many."""

from __future__ import annotations

from collections.abc import Iterable

from ...exceptions import PeerBusy

__all__ = ["MAX_BYTES", "MAX_BYTES_OF_GROUP", "NameBudget"]

MAX_BYTES_OF_GROUP = 256 * 1024
"""Bytes of the names that one group listens to."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of the names that all groups listen to: they are in memory, in each journal, and in each list of groups."""


class NameBudget:
    """What each group takes of it, by API and name. Only touched from one loop."""

    def __init__(self) -> None:
        self._sizes: dict[tuple[str, str], int] = {}
        self._total = 0

    def take(self, api: str, group: str, names: Iterable[str], *, bounded: bool = True) -> None:
        """
        Note which events a group listens to, instead of those that it listened to before.

        Args:
            api, group: which group.
            names: of the events.
            bounded: whether they may be refused: not where events are kept for them already.

        Raises PeerBusy where they are too many; then what was noted before stays.

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
        """Forget what a group listened to."""
        self._total -= self._sizes.pop((api, group), 0)
