"""The members of the APIs served at the moment: whether a name is a procedure's or an event's."""

from __future__ import annotations

from enum import Enum

from ..cli.support.connection import Connection
from ..core.peers import Peer
from ..deadline import Deadline

__all__ = ["LOOK_SECONDS", "Member", "find_member", "names_on"]

LOOK_SECONDS = 3.0
"""Seconds for which discovery searches a peer that serves an API."""


class Member(Enum):
    """The kind of a name."""

    PROCEDURE = "procedure"
    EVENT = "event"
    UNKNOWN = "unknown"


async def find_member(bus: Connection, api: str, name: str) -> Member:
    """Return the kind of a name; `*` means all events of the API. Raises NotReachable if no peer serves the API."""
    engine = bus.client.engine
    if api not in engine.snapshot.by_api:
        await engine.resolve(api, Deadline.after(LOOK_SECONDS))
    snapshot = engine.snapshot
    if name == "*" or (api, name) in snapshot.events:
        return Member.EVENT
    if any(_serves(peer, api, name) for peer in snapshot.by_api.get(api, ())):
        return Member.PROCEDURE
    return Member.UNKNOWN


def names_on(bus: Connection, api: str) -> list[str]:
    """Return the names of an API's procedures and events, from the peers known to serve it."""
    snapshot = bus.client.engine.snapshot
    infos = [info for peer in snapshot.by_api.get(api, ()) for info in peer.announcement.apis or ()]
    names = {name for info in infos if info.name == api for name in info.procedures}
    return sorted(names | {event for of, event in snapshot.events if of == api})


def _serves(peer: Peer, api: str, procedure: str) -> bool:
    return any(info.name == api and procedure in info.procedures for info in peer.announcement.apis or ())
