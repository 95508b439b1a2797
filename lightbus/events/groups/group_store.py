"""The members of each group, stored in the journals: a journal that fails delays no other."""

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
    """What a journal did not take yet."""

    held: dict[tuple[str, str, int], bool] = field(default_factory=dict)
    """Per API, group and partition whether a member has it."""
    groups: dict[tuple[str, str], KnownGroup] = field(default_factory=dict)
    has_failed: bool = False


class GroupStore:
    """
    Stores groups, and which of their partitions members have. Only touched from the node's loop.

    Args:
        journals: where they are stored.

    """

    def __init__(self, journals: ServedJournals) -> None:
        self._journals = journals
        self._unsaved: defaultdict[str, _Unsaved] = defaultdict(_Unsaved)
        """By journal."""

    def save_group(self, group: GroupState, journals: Iterable[Journal] | None = None) -> None:
        """Store a group in these journals, or in all that are to know it."""
        if journals is None:
            api = group.info.api
            journals = [journal for journal in self._journals.all() if self._journals.concerns(api, journal)]
        for journal in journals:
            self._unsaved[journal.id].groups[group.info.api, group.info.name] = group.info_to_store
            self._save(journal)

    def save_held(self, group: GroupState, partitions: Iterable[int], *, is_held: bool) -> None:
        """Store that some member has these partitions of a group, or none has."""
        for journal in self._journals.all():
            held = self._unsaved[journal.id].held
            held.update({(group.info.api, group.info.name, partition): is_held for partition in partitions})
            self._save(journal)

    def remove_group(self, api: str, name: str) -> None:
        """Have no journal know a group any more. Raises JournalError."""
        for journal in self._journals.all():
            self._unsaved[journal.id].groups.pop((api, name), None)
            journal.groups.remove(api, name)

    def journal_removed(self, journal: Journal) -> None:
        """Forget what a journal did not take."""
        self._unsaved.pop(journal.id, None)

    def tick(self) -> None:
        """Try again to store what a journal did not take."""
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
                logger.error("Who is in which group was not stored, and is tried again: %s", error)
