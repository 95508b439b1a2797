"""
How the event of a topic is named: as it is declared, or with the one group that it is given to once more.

An event that was a dead letter and is tried again, or that a group was owed and not given, is stored once more, under
a name like "user_registered for shop-send_mail". No event's own name has a blank, so such an event is kept, followed
and acknowledged as any other, by that group alone.
"""

from __future__ import annotations

__all__ = ["declared_event", "name_for_group", "only_group_of"]

_FOR = " for "


def name_for_group(event: str, group: str) -> str:
    """Return the name under which one group alone is given an event."""
    return f"{event}{_FOR}{group}"


def declared_event(name: str) -> str:
    """Return the name of the event itself."""
    return name.partition(_FOR)[0]


def only_group_of(name: str) -> str:
    """Return the only group that is given what has this name; empty where every group is."""
    return name.partition(_FOR)[2]
