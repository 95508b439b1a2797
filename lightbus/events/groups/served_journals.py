"""The journals whose groups a publisher coordinates, and what of their events a group is owed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.topic import Topic
from ...service.api import ApiRegistry
from .group_state import GroupState

__all__ = ["JournalSource", "ServedJournals"]


class JournalSource(Protocol):
    """Where the journals come from that this process serves."""

    def own(self) -> Journal:
        """Return our own, opened at first use. Raises JournalError."""

    def all(self) -> list[Journal]:
        """Return them, our own first."""

    def get(self, journal: str) -> Journal | None:
        """Return the one of this name."""

    def others(self) -> list[Journal]:
        """Return those that belong to other services."""


class ServedJournals:
    """
    Of the journals that are open, those that the groups have begun in. Only touched from the node's loop.

    Args:
        source: opens them. `own`, `get` and `others` are its methods.
        apis: whose events we publish.

    """

    def __init__(self, source: JournalSource, apis: ApiRegistry) -> None:
        self.own = source.own
        self.get = source.get
        self._source = source
        self._apis = apis
        self._served: set[str] = set()

    def all(self) -> list[Journal]:
        """Return them, our own first."""
        return [journal for journal in self._source.all() if journal.id in self._served]

    def opened(self) -> list[Journal]:
        """Return all that are open, also those that are not served yet."""
        return self._source.all()

    def add(self, journal: Journal) -> None:
        """Serve one more."""
        self._served.add(journal.id)

    def remove(self, journal: Journal) -> None:
        """Serve one less."""
        self._served.discard(journal.id)

    def concerns(self, api: str, journal: Journal) -> bool:
        """Return whether a journal is to know the groups of an API: one of another service knows those of its own."""
        is_ours = journal not in self._source.others()
        return bool(journal.topics.of(api)) or (is_ours and self._apis.find(api) is not None)

    def target(self, journal: Journal) -> Journal:
        """Return the journal for repeated events of a journal: those of another service stay with it."""
        return journal if journal in self._source.others() else self._source.own()

    def keeps(self, api: str) -> bool:
        """Return whether events of an API are stored here: of one of ours, or for a service without a worker here."""
        return self._apis.find(api) is not None or any(journal.topics.of(api) for journal in self.all())

    def event_names(self, api: str, events: Iterable[str], group: str = "") -> list[str]:
        """Return the names of events, with `"*"` expanded to those that the API declares or a journal holds."""
        names = set(events)
        kept = {topic for journal in self.all() for topic in journal.topics.of(api)}
        if "*" in names:
            declared = self._apis.find(api)
            names |= set(declared.events if declared is not None else ())
            names |= {topic.event for topic in kept if not topic.only_group}
        again = {topic.event for topic in kept if group == topic.only_group != "" and topic.declared_event in names}
        return sorted(names - {"*"} | again)

    def topics(self, group: GroupState, partitions: Iterable[int], journal: Journal) -> list[tuple[Topic, int]]:
        """Return the topics of a journal that a group is owed, in some partitions, with their newest sequences."""
        wanted = set(partitions)
        return [
            (topic, head)
            for topic, head in journal.topics.of(group.info.api).items()
            if topic.partition in wanted and group.is_owed(topic.event)
        ]
