"""Where in a journal somebody begins: with an event that is given by its id, at a time, or with what comes next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ..adapters.sqlite.journal import Journal, Topic
from ..exceptions import JournalError, PeerRefused
from ..membership.context import Identity
from ..wire import envelope
from .group_state import Moment
from .served_journals import ServedJournals

__all__ = ["StartingPoints", "position_of"]

logger = logging.getLogger("lightbus.groups")

MAX_SEARCHES = 100
"""Questions that wait at a time for an event to be found by its id."""

MAX_MISSED = 1000
"""Events that are remembered to have been asked for in vain, so that it is said once."""


class _At(int):
    """The sequence that an id stands for."""


class StartingPoints:
    """
    Finds the events that listeners want to begin with (`since`). Only touched from the node's loop.

    Args:
        identity: who we are.
        journals: where they are looked for.

    """

    def __init__(self, identity: Identity, journals: ServedJournals) -> None:
        self._identity = identity
        self._journals = journals
        self._missed: set[tuple[str, str]] = set()
        self._sought: dict[tuple[str, str], dict[str, int]] = {}
        """Per API and id of an event its sequence in each journal in which it was looked for; 0 where it is not."""
        self._searching: set[asyncio.Task[None]] = set()
        self._one_search = asyncio.Lock()

    def resolve(self, journal: Journal, api: str, since: Any) -> Any:
        """Return the sequence of an event that is given by its id or native id; anything else, or unknown, as it is."""
        if not _is_id(since):
            return since
        found = _native(journal, since) or self._sought.get((api, since), {}).get(journal.id)
        return _At(found) if found else since

    def check(self, api: str, since: Any) -> None:
        """Warn of an event that somebody wants to begin with, and that no journal here has. Once for each."""
        if not _is_id(since) or (api, since) in self._missed:
            return
        for journal in self._journals.all():
            found = self.resolve(journal, api, since)
            if isinstance(found, _At) and journal.record(found) is not None:
                return
        if len(self._missed) < MAX_MISSED:
            self._missed.add((api, since))
        logger.warning(
            "Somebody wants the events of %s since %s, and no journal here has that event. Unless another publisher "
            "has it, it was deleted or never was, and they are given what is fired from now on. "
            "Give the id of an event that is kept (bus.%s.<event>.history()), or a time.",
            api, since, api,
        )  # fmt: skip

    def unsearched(self, api: str, since: Any) -> list[Journal]:
        """Return the journals in which the event is still to be looked for that somebody wants to begin with."""
        if not _is_id(since):
            return []
        known = self._sought.get((api, since), {})
        return [each for each in self._journals.all() if each.id not in known and _native(each, since) is None]

    def search(self, journals: list[Journal], api: str, id: str, then: Callable[[], object]) -> None:
        """Look for an event by its id, in a thread. Raises PeerRefused where too many are looked for already."""
        if len(self._searching) >= MAX_SEARCHES:
            raise PeerRefused(f"{self._identity} looks for {MAX_SEARCHES} events already: ask again later")

        async def search() -> None:
            async with self._one_search:
                for journal in journals:
                    if journal.id not in self._sought.get((api, id), {}):
                        found = await asyncio.to_thread(_sequence_of, journal, api, id)
                        self._note_sought((api, id), journal, found)
            then()

        task = asyncio.get_running_loop().create_task(search())
        self._searching.add(task)
        task.add_done_callback(self._searching.discard)

    def _note_sought(self, name: tuple[str, str], journal: Journal, found: int) -> None:
        if name not in self._sought and len(self._sought) >= MAX_MISSED:
            del self._sought[next(iter(self._sought))]
        self._sought.setdefault(name, {})[journal.id] = found


def position_of(journal: Journal, topic: Topic, head: int, since: Any, otherwise: Moment | None = None) -> int:
    """
    Return behind which sequence of a topic somebody begins.

    Args:
        journal, topic: where.
        head: the newest sequence of the topic.
        since: a time, `"0"` for all there is, `"$"` for what comes next, or an event, as `resolve` returned it.
        otherwise: since when, where no journal here has the event.

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
        return journal.position_since(topic, since)
    if isinstance(since, datetime):
        since = since.timestamp()
    return head if since is None else journal.position_before(topic, float(since))


def _is_id(since: Any) -> bool:
    return isinstance(since, str) and since not in ("0", "$")


def _native(journal: Journal, since: str) -> int | None:
    """Return the sequence of an event that is given by its native id; None where that is another journal's, or none."""
    name, _, number = since.rpartition("-")
    return int(number) if name == journal.id and number.isascii() and number.isdigit() else None


def _sequence_of(journal: Journal, api: str, id: str) -> int:
    """Return the sequence of the event of an id; 0 where it is not there. From a thread."""
    try:
        found = journal.find(lambda record: envelope.decode_record(record).id == id, id.encode(), api)
    except JournalError as error:
        logger.error("The event %s is not looked for: %s", id, error)
        return 0
    return 0 if found is None else found[1]
