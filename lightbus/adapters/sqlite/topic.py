"""The topic: one partition of an event, whose events are stored and delivered in order."""

from __future__ import annotations

from typing import NamedTuple

from ...wire.event_names import declared_event, name_for_group, only_group_of

__all__ = ["Topic"]


class Topic(NamedTuple):
    """One partition of an event; with an event name that says so, of events for a single group."""

    api: str
    event: str
    partition: int

    @property
    def declared_event(self) -> str:
        """The name of the event as its API declares it."""
        return declared_event(self.event)

    @property
    def only_group(self) -> str:
        """The only group that these events are delivered to; empty if they are delivered to every group."""
        return only_group_of(self.event)

    def for_group(self, group: str) -> Topic:
        """Return the topic of the same event for a single group."""
        return self._replace(event=name_for_group(self.declared_event, group))
