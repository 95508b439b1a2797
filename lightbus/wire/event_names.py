"""
The name of a topic's event: as declared, or followed by the only group that gets it.

A dead letter that is retried, or an event that a group missed, is stored again under a name like
"user_registered for shop-send_mail". Declared names contain no space, so such an event is stored, followed and
acknowledged like any other, by that group only.
"""

from __future__ import annotations

__all__ = ["declared_event", "name_for_group", "only_group_of"]

_FOR = " for "


def name_for_group(event: str, group: str) -> str:
    """Return the name under which an event is stored for a single group."""
    return f"{event}{_FOR}{group}"


def declared_event(name: str) -> str:
    """Return the declared name of an event."""
    return name.partition(_FOR)[0]


def only_group_of(name: str) -> str:
    """Return the only group that gets events of this name; empty if every group does."""
    return name.partition(_FOR)[2]
