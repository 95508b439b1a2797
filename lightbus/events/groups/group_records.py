"""What this process knows of the groups of its listeners, from all publishers."""

from __future__ import annotations

import logging
import time
from typing import Any, TypeAlias

from ...wire.envelope import Assign

__all__ = ["MAX_AGE", "MAX_POSITIONS", "GroupRecords", "TopicKey", "age_of"]

TopicKey: TypeAlias = tuple[str, str, int]
"""Journal (empty: none, best effort), event, partition."""

logger = logging.getLogger("lightbus.groups")

REMOVED_AFTER = 5.0
"""If a publisher reports a group as younger than we did by more than this, in seconds, the group was removed."""

MAX_AGE = 50 * 366 * 86_400.0
"""Largest age of a group, in seconds."""

MAX_POSITIONS = 50_000
"""Positions remembered in topics whose publisher is gone; beyond that the oldest are dropped."""


def age_of(created_at: float, clock: float) -> float:
    """
    Return the age of a group in seconds, from its creation and the present time by another clock.

    The result is clamped to a valid age: the report may be wrong, and is passed on in our own messages.
    """
    return min(max(0.0, clock - created_at), MAX_AGE)


class GroupRecords:
    """Creation times of groups, and positions in topics not followed now. Only touched from the node's loop."""

    def __init__(self) -> None:
        self._created_at: dict[tuple[str, str], float] = {}
        """By (API, group): its creation, as far as known, by time.monotonic(), since the wall clock may be set."""
        self._mixed: set[tuple[str, str]] = set()
        """Groups with another program as a member, logged once and not for each publisher."""
        self._positions: dict[tuple[str, str, TopicKey], int] = {}
        """Positions in topics that are not followed now; sent to the process that serves them next."""
        self._starts: dict[tuple[str, str, TopicKey], tuple[int, int]] = {}
        """The sequence and the number of the latest unanswered request to count a delivery."""

    def joins(self, api: str, group: str) -> None:
        """Record that a listener here joins a group; if the group is not known yet, it counts as created now."""
        self._created_at.setdefault((api, group), time.monotonic())

    def created_at(self, api: str, group: str) -> float:
        """Return when a group was created, as far as known, in seconds since 1970 by our present clock."""
        now = time.monotonic()
        return time.time() - (now - self._created_at.get((api, group), now))

    def learn(self, api: str, group: str, message: Assign) -> None:
        """Record the creation of a group as a publisher reports it; warn if another program is a member of it."""
        name = (api, group)
        if message.mixed and name not in self._mixed:
            self._mixed.add(name)
            logger.warning(
                "Another program listens under the group %s of %s, too: each event goes to one of the two, so this one "
                "misses what the other receives. Give one of them another service_name or listener_name; "
                "`lightbus groups list` shows the group's members.",
                group, api,
            )  # fmt: skip
        if group and name in self._created_at:
            created_at = time.monotonic() - age_of(message.created_at, message.clock)
            if created_at < self._created_at[name] or created_at > self._created_at[name] + REMOVED_AFTER:
                # Older: another member joined before us. Much younger than we reported: the group was removed.
                self._created_at[name] = created_at

    def positions_of(self, api: str, group: str) -> list[Any]:
        """Return our positions in the topics of a group that are not followed now."""
        return [[*key, at] for (a, g, key), at in self._positions.items() if (a, g) == (api, group)] if group else []

    def remember(self, api: str, group: str, key: TopicKey, handled: int) -> None:
        """Record our position in a topic that is no longer followed, so that no event is handled again."""
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
        """Return the number with which to repeat the request to count this delivery; 0 if there was none."""
        asked, number = self._starts.pop((api, group, key), (0, 0))
        return number if asked == sequence else 0
