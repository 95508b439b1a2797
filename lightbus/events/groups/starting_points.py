"""
The starting point of a group in a journal: an event given by its id, a time, or the next event.

An id and a wall-clock time are found by scanning the journal: in a thread, before the request is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.topic import Topic
from ...exceptions import JournalError, PeerRefused
from ...membership.context import Identity
from ...recurring import RecurringLog
from ..kept_events import id_of
from .group_state import Moment
from .served_journals import ServedJournals

__all__ = ["StartingPoints", "position_of"]

logger = logging.getLogger("lightbus.groups")

MAX_SEARCHES = 100
"""Searches at a time, including queued ones."""

MAX_MISSED = 1000
"""Ids that were not found, remembered so that each is logged once."""


class _At(int):
    """The sequence of an event that was given by its id."""


class _Positions(dict[Topic, int]):
    """By topic, the sequence at a wall-clock time."""


class StartingPoints:
    """
    Finds the events that listeners start with (`since`). Only touched from the node's loop.

    Args:
        identity: the identity of this process.
        journals: the journals that are searched.

    """

    def __init__(self, identity: Identity, journals: ServedJournals) -> None:
        self._identity = identity
        self._journals = journals
        self._missed: set[tuple[str, str]] = set()
        self._found_at: dict[tuple[str, str], dict[str, int]] = {}
        """By API and event id: its sequence in each journal that was searched; 0 if it is not there."""
        self._timed: dict[tuple[str, float], dict[str, _Positions]] = {}
        """By API and time: the positions in each journal. Dropped after the answer: a later event may be older."""
        self._failures = RecurringLog(logger)
        self._searching: set[asyncio.Task[None]] = set()
        self._one_search = asyncio.Lock()

    def resolve(self, journal: Journal, api: str, since: Any) -> Any:
        """Return the position found for an event's id, native id or a time; anything else, or unknown, unchanged."""
        if (time := _time_of(since)) is not None:
            return self._timed.get((api, time), {}).get(journal.id, since)
        if not _is_id(since):
            return since
        found = _native(journal, since) or self._found_at.get((api, since), {}).get(journal.id)
        return _At(found) if found else since

    def check(self, api: str, since: Any) -> None:
        """Log a starting point that is the id of an event that no journal here has; once for each id."""
        if not _is_id(since) or (api, since) in self._missed:
            return
        for journal in self._journals.all():
            found = self.resolve(journal, api, since)
            if isinstance(found, _At) and journal.record(found) is not None:
                return
        if len(self._missed) < MAX_MISSED:
            self._missed.add((api, since))
        self._failures.log(
            ("missed", api, since), logging.WARNING,
            "A listener asks for the events of %s since %s, and no journal here has that event. Unless another "
            "publisher has it, it was deleted or never existed, and the listener begins with the next event. "
            "Give the id of a stored event (bus.%s.<event>.history()), or a time.",
            api, since, api,
        )  # fmt: skip

    def unsearched(self, api: str, since: Any) -> list[Journal]:
        """Return the journals that must still be searched for a starting point."""
        if (time := _time_of(since)) is not None:
            return [each for each in self._journals.all() if each.id not in self._timed.get((api, time), {})]
        if not _is_id(since):
            return []
        known = self._found_at.get((api, since), {})
        return [each for each in self._journals.all() if each.id not in known and _native(each, since) is None]

    def search(self, journals: list[Journal], api: str, since: Any, then: Callable[[], object]) -> None:
        """
        Search for an event id or a time in a thread, then call `then`. Raises PeerRefused for too many searches.

        If a journal cannot be read, `then` is not called and the request stays unanswered: the member repeats it.
        """
        if len(self._searching) >= MAX_SEARCHES:
            raise PeerRefused(f"{self._identity} searches for {MAX_SEARCHES} events already: ask again later")
        task = asyncio.get_running_loop().create_task(self._search(journals, api, since, then))
        self._searching.add(task)
        task.add_done_callback(self._searching.discard)

    async def _search(self, journals: list[Journal], api: str, since: Any, then: Callable[[], object]) -> None:
        time = _time_of(since)
        async with self._one_search:
            try:
                for journal in journals:
                    if time is not None:
                        topics = list(journal.topics.of(api))
                        found = await asyncio.to_thread(_positions_of, journal, topics, time)
                        self._timed.setdefault((api, time), {})[journal.id] = found
                    elif journal.id not in self._found_at.get((api, since), {}):
                        self._record_start(
                            (api, since), journal, await asyncio.to_thread(_sequence_of, journal, api, since)
                        )
                then()
            except JournalError as error:
                text = "The starting point of the events of %s since %s cannot be found: %s"
                self._failures.log(("times", api), logging.ERROR, text, api, since, error)
            finally:
                if time is not None:
                    self._timed.pop((api, time), None)

    def _record_start(self, name: tuple[str, str], journal: Journal, found: int) -> None:
        if name not in self._found_at and len(self._found_at) >= MAX_MISSED:
            del self._found_at[next(iter(self._found_at))]
        self._found_at.setdefault(name, {})[journal.id] = found


def position_of(journal: Journal, topic: Topic, head: int, since: Any, otherwise: Moment | None = None) -> int:
    """
    Return the sequence of a topic after which a group begins.

    Args:
        journal, topic: the topic.
        head: the newest sequence of the topic.
        since: a time or an event as `resolve` returned it, `"0"` for the first event, `"$"` for the next one.
        otherwise: the moment to start from if no journal here has the event.

    """
    if since == "$":
        return head
    if since == "0":
        return 0
    if isinstance(since, _At):
        return min(since, head)
    if isinstance(since, str):
        since = otherwise  # another publisher has it
    if isinstance(since, Moment):
        return journal.history.position_since(topic, since)
    return min(since.get(topic, 0), head) if isinstance(since, _Positions) else head


def _is_id(since: Any) -> bool:
    return isinstance(since, str) and since not in ("0", "$")


def _time_of(since: Any) -> float | None:
    """Return a wall-clock time in seconds since 1970; None for anything else."""
    if isinstance(since, datetime):
        return since.timestamp()
    return float(since) if isinstance(since, (int, float)) and not isinstance(since, Moment) else None


def _positions_of(journal: Journal, topics: list[Topic], time: float) -> _Positions:
    """Return the last sequence of each topic before a time. Call it in a thread. Raises JournalError."""
    return _Positions({topic: journal.history.position_before(topic, time) for topic in topics})


def _native(journal: Journal, since: str) -> int | None:
    """Return the sequence in a native id; None if it is of another journal, or is no native id."""
    name, _, number = since.rpartition("-")
    return int(number) if name == journal.id and number.isascii() and number.isdigit() else None


def _sequence_of(journal: Journal, api: str, id: str) -> int:
    """Return the sequence of the event with an id; 0 if there is none. Call it in a thread."""
    try:
        found = journal.history.find(lambda record: id_of(record) == id, id.encode(), api)
    except JournalError as error:
        logger.error("The event %s cannot be searched for: %s", id, error)
        return 0
    return 0 if found is None else found[1]
