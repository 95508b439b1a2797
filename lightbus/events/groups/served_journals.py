"""The journals whose groups a publisher coordinates, and which of their topics belong to a group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.topic import Topic
from ...service.api import ApiRegistry
from .group_state import GroupState

__all__ = ["JournalSource", "ServedJournals"]


class JournalSource(Protocol):
    """The open journals of this process."""

    def own(self) -> Journal:
        """Return our own journal, opened at first use. Raises JournalError."""

    def all(self) -> list[Journal]:
        """Return all open journals, our own first."""

    def get(self, journal: str) -> Journal | None:
        """Return the journal of this id, or None."""

    def others(self) -> list[Journal]:
        """Return the journals that belong to other services."""


class ServedJournals:
    """
    The open journals in which all groups have a starting point. Only touched from the node's loop.

    Args:
        source: opens the journals. `own` and `get` are its methods.
        apis: the APIs whose events we publish.

    """

    def __init__(self, source: JournalSource, apis: ApiRegistry) -> None:
        self.own = source.own
        self.get = source.get
        self._source = source
        self._apis = apis
        self._served: set[str] = set()

    def all(self) -> list[Journal]:
        """Return the served journals, our own first."""
        return [journal for journal in self._source.all() if journal.id in self._served]

    def opened(self) -> list[Journal]:
        """Return all open journals, including those that are not served yet."""
        return self._source.all()

    def add(self, journal: Journal) -> None:
        """Serve a journal."""
        self._served.add(journal.id)

    def remove(self, journal: Journal) -> None:
        """Stop serving a journal."""
        self._served.discard(journal.id)

    def concerns(self, api: str, journal: Journal) -> bool:
        """Return whether a journal stores the groups of an API; another service's stores only those of its events."""
        is_ours = journal not in self._source.others()
        return bool(journal.topics.of(api)) or (is_ours and self._apis.find(api) is not None)

    def target(self, journal: Journal) -> Journal:
        """Return the journal in which events of a journal are stored again: another service's keeps its own."""
        return journal if journal in self._source.others() else self._source.own()

    def keeps(self, api: str) -> bool:
        """Return whether events of an API are stored here: it is one of ours, or has events in a served journal."""
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
        """Return a group's topics in some partitions of a journal, with their newest sequences."""
        wanted = set(partitions)
        return [
            (topic, head)
            for topic, head in journal.topics.of(group.info.api).items()
            if topic.partition in wanted and group.gets(topic.event)
        ]
