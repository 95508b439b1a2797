"""What this process knows of the groups of its listeners, whichever publisher it learned that from."""

from __future__ import annotations

import logging
import time
from typing import Any, TypeAlias

from ...wire.envelope import Assign

__all__ = ["MAX_AGE", "GroupRecords", "TopicKey", "age_of"]

TopicKey: TypeAlias = tuple[str, str, int]
"""Journal (empty: none, best effort), event, partition."""

logger = logging.getLogger("lightbus.groups")

REMOVED_AFTER = 5.0
"""Seconds by which a publisher must say that a group is younger than we said, to mean that it was removed meanwhile."""

MAX_AGE = 50 * 366 * 86_400.0
"""Seconds for which a group can exist: there was no bus before."""

MAX_POSITIONS = 50_000
"""Topics of journals whose publisher is gone of which we remember how far we came; the oldest are forgotten."""


def age_of(created_at: float, clock: float) -> float:
    """
    Return the age of a group in seconds, from a report of its age by another clock.

    The report is passed on in messages of ours: it may be wrong, and still has to be a valid time.
    """
    return min(max(0.0, clock - created_at), MAX_AGE)


class GroupRecords:
    """When groups were created, and how far topics were handled that are not followed. From the node's loop only."""

    def __init__(self) -> None:
        self._created_at: dict[tuple[str, str], float] = {}
        """Per (API, group) when it was created, as far as we know, by time.monotonic(): clocks may be put right."""
        self._mixed: set[tuple[str, str]] = set()
        """Groups for which it was logged that another program listens under their name: once, not per publisher."""
        self._positions: dict[tuple[str, str, TopicKey], int] = {}
        """The positions in topics that are not followed now: sent to the process that serves them next."""
        self._starts: dict[tuple[str, str, TopicKey], tuple[int, int]] = {}
        """The sequence of which it was asked last to count a delivery, without an answer, and under which number."""

    def joins(self, api: str, group: str) -> None:
        """Record that a listener of ours is a member of a group: a group that is not known yet is created now."""
        self._created_at.setdefault((api, group), time.monotonic())

    def created_at(self, api: str, group: str) -> float:
        """Return when a group was created, as far as we know, in seconds since 1970 as our clock counts them now."""
        now = time.monotonic()
        return time.time() - (now - self._created_at.get((api, group), now))

    def learn(self, api: str, group: str, message: Assign) -> None:
        """Record when a group was created, as a publisher says; warn where another program is a member of it."""
        name = (api, group)
        if message.mixed and name not in self._mixed:
            self._mixed.add(name)
            logger.warning(
                "Another program listens under the group %s of %s, too: each event goes to one of the two, so this one "
                "misses what the other is given. Give one of them another service_name or listener_name; "
                "`lightbus groups list` shows the group's members.",
                group, api,
            )  # fmt: skip
        if group and name in self._created_at:
            created_at = time.monotonic() - age_of(message.created_at, message.clock)
            if created_at < self._created_at[name] or created_at > self._created_at[name] + REMOVED_AFTER:
                # Older: another member was there before us. That much younger than we reported: the group was removed.
                self._created_at[name] = created_at

    def positions_of(self, api: str, group: str) -> list[Any]:
        """Return up to where we handled the topics of a group that we do not follow at the moment."""
        return [[*key, at] for (a, g, key), at in self._positions.items() if (a, g) == (api, group)] if group else []

    def remember(self, api: str, group: str, key: TopicKey, handled: int) -> None:
        """Note up to where a topic was handled that we do not follow any more: it is not to be handled again."""
        name = (api, group, key)
        self._positions[name] = max(handled, self._positions.pop(name, 0))
        if len(self._positions) > MAX_POSITIONS:
            del self._positions[next(iter(self._positions))]

    def start_unanswered(self, api: str, group: str, key: TopicKey, sequence: int, number: int) -> None:
        """Record the number of an unanswered request to count a delivery: it may have been counted."""
        self._starts[api, group, key] = sequence, number
        if len(self._starts) > MAX_POSITIONS:
            del self._starts[next(iter(self._starts))]

    def take_start(self, api: str, group: str, key: TopicKey, sequence: int) -> int:
        """Return the number under which to ask for the same delivery once more; 0: it was not asked yet."""
        asked, number = self._starts.pop((api, group, key), (0, 0))
        return number if asked == sequence else 0
