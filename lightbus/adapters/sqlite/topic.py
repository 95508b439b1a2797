"""What is stored in order, one behind the other: one partition of an event."""

from __future__ import annotations

from typing import NamedTuple

from ...wire.event_names import declared_event, name_for_group, only_group_of

__all__ = ["Topic"]


class Topic(NamedTuple):
    """One partition of an event; of one that one group alone is given, where it is named so."""

    api: str
    event: str
    partition: int

    @property
    def declared_event(self) -> str:
        """The name of the event itself."""
        return declared_event(self.event)

    @property
    def only_group(self) -> str:
        """The only group that is given what is stored here; empty where every group is."""
        return only_group_of(self.event)

    def for_group(self, group: str) -> Topic:
        """Return where the same event is stored for one group alone."""
        return self._replace(event=name_for_group(self.declared_event, group))
