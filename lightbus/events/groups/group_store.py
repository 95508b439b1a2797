"""Stores groups and their assigned partitions in the journals. A journal that fails does not delay others."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.journal import Journal
from ...exceptions import JournalError
from .group_state import GroupState
from .served_journals import ServedJournals

__all__ = ["GroupStore"]

logger = logging.getLogger("lightbus.groups")


@dataclass(slots=True)
class _Unsaved:
    """The changes that a journal has not stored yet."""

    held: dict[tuple[str, str, int], bool] = field(default_factory=dict)
    """By API, group and partition: whether a member has the partition."""
    groups: dict[tuple[str, str], KnownGroup] = field(default_factory=dict)
    has_failed: bool = False


class GroupStore:
    """
    Stores groups, and which of their partitions members have. Only touched from the node's loop.

    Args:
        journals: the served journals.

    """

    def __init__(self, journals: ServedJournals) -> None:
        self._journals = journals
        self._unsaved: defaultdict[str, _Unsaved] = defaultdict(_Unsaved)
        """The unstored changes, by journal."""

    def save_group(self, group: GroupState, journals: Iterable[Journal] | None = None) -> None:
        """Store a group in these journals; by default in all that store groups of its API."""
        if journals is None:
            api = group.info.api
            journals = [journal for journal in self._journals.all() if self._journals.concerns(api, journal)]
        for journal in journals:
            self._unsaved[journal.id].groups[group.info.api, group.info.name] = group.info_to_store
            self._save(journal)

    def save_held(self, group: GroupState, partitions: Iterable[int], *, is_held: bool) -> None:
        """Store whether a member has these partitions of a group."""
        for journal in self._journals.all():
            held = self._unsaved[journal.id].held
            held.update({(group.info.api, group.info.name, partition): is_held for partition in partitions})
            self._save(journal)

    def remove_group(self, api: str, name: str) -> None:
        """Remove a group from all open journals, or it would be back with one of them. Raises JournalError."""
        for journal in self._journals.opened():
            self._unsaved[journal.id].groups.pop((api, name), None)
            journal.groups.remove(api, name)

    def journal_removed(self, journal: Journal) -> None:
        """Drop the unstored changes of a journal."""
        self._unsaved.pop(journal.id, None)

    def tick(self) -> None:
        """Repeat writes that a journal failed to store."""
        for journal in self._journals.all():
            self._save(journal)

    def _save(self, journal: Journal) -> None:
        unsaved = self._unsaved[journal.id]
        try:
            if unsaved.held:
                journal.change(
                    *journal.cursors.changes(held=[(*key, is_held) for key, is_held in unsaved.held.items()])
                )
                unsaved.held.clear()
            while unsaved.groups:
                journal.groups.save(next(iter(unsaved.groups.values())))
                del unsaved.groups[next(iter(unsaved.groups))]
            unsaved.has_failed = False
        except JournalError as error:
            if not unsaved.has_failed:
                unsaved.has_failed = True
                logger.error("The members of groups could not be stored; the write is repeated: %s", error)
