"""`lightbus watch`: peers and APIs as they come and go, computed from two snapshots of the registry."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

from ...core.peers import Peer, PeerState
from ...exceptions import NotReachable
from ..support.catalogue import ServedApi, served_apis
from ..support.connection import Connection, on_bus, passes, stop_requested
from ..support.options import ClientOptions, client_options
from ..support.output import Cell
from .peers import STYLES, PeerReport, state_of

__all__ = ["ApiChange", "PeerChange", "changes", "watch"]

LOOK_EVERY = 0.1
"""Seconds between two checks for a new snapshot, each of which is a single comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerChange:
    """A change of a peer; `change` is its new state, or what happened."""

    change: str
    peer: Peer

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        announcement = self.peer.announcement
        who = {name: getattr(announcement, name) for name in ("service", "process", "instance", "host")}
        return {"type": "peer", "change": self.change, **who, "apis": _apis_of(self.peer)}

    def cells(self) -> list[Cell]:
        """Return the cells of its line."""
        apis = f", serves {', '.join(_apis_of(self.peer))}" if _apis_of(self.peer) and self.change == "up" else ""
        style = STYLES.get(self.change, "red")
        return [f"peer {self.peer.announcement} ", (self.change, style), apis]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiChange:
    """A change of an API: it was added, has changed, or is gone."""

    change: str
    api: ServedApi

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        about = {"api": self.api.name, "versions": self.api.versions, "mixed": self.api.is_mixed}
        return {"type": "api", "change": self.change, **about}

    def cells(self) -> list[Cell]:
        """Return the cells of its line."""
        style = "red" if self.change == "gone" else "yellow" if self.api.is_mixed else "green"
        versions = f", version {', '.join(map(str, self.api.versions))}" if self.api.versions else ""
        mixed = ", mixed" if self.api.is_mixed else ""
        return [f"api {self.api.name} ", (self.change, style), versions, mixed]


@click.command()
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many lines.")
@client_options
def watch(options: ClientOptions, count: int | None) -> None:
    """Show peers and APIs as they come and go, a line for each change.

    It begins with the present peers and APIs; Ctrl-C ends it. An API appears with the first peer that serves it, and
    disappears with the last.
    """
    on_bus(options, lambda bus: _watch(bus, count))


async def _watch(bus: Connection, count: int | None) -> None:
    done = stop_requested()
    try:
        await bus.discover_all()
    except NotReachable:
        bus.output.note(f"No peer is on the bus yet ({bus.where}).")
    before: Mapping[str, Peer] = {}
    shown = 0
    initial = True
    while True:
        now = bus.client.engine.snapshot.peers
        for change in changes(before, now):
            _show(bus, change, initial=initial)
            shown += 1
            if shown == count:
                return
        if initial:
            bus.output.note("Watching for changes; Ctrl-C ends it.")
        before, initial = now, False
        while bus.client.engine.snapshot.peers is before:
            if await passes(done, LOOK_EVERY):
                return


def _show(bus: Connection, change: PeerChange | ApiChange, *, initial: bool) -> None:
    at = time.time()
    if bus.output.as_json:
        bus.output.record({"at": at, "initial": initial, **change.fields()})
    else:
        bus.output.line((f"{datetime.fromtimestamp(at):%H:%M:%S}", "dim"), "  ", *change.cells())


def changes(before: Mapping[str, Peer], now: Mapping[str, Peer]) -> Iterator[PeerChange | ApiChange]:
    """Yield the differences: peers that came, went or changed their state, and the resulting changes of APIs."""
    for instance, peer in before.items():
        if instance not in now and _is_shown(peer):
            yield PeerChange(change="gone", peer=peer)
    for instance, peer in now.items():
        known = before.get(instance)
        if _is_shown(peer) and (known is None or _state_of_peer(known) != _state_of_peer(peer)):
            yield PeerChange(change=state_of(peer), peer=peer)
    yield from _apis_changed(before.values(), now.values())


def _apis_changed(before: Iterable[Peer], now: Iterable[Peer]) -> Iterator[ApiChange]:
    old, new = _public(before), _public(now)
    for name in sorted({*old, *new}):
        if name not in new:
            yield ApiChange(change="gone", api=ServedApi(name=name, served=()))
        elif name not in old:
            yield ApiChange(change="added", api=new[name])
        elif (old[name].versions, old[name].is_mixed) != (new[name].versions, new[name].is_mixed):
            yield ApiChange(change="changed", api=new[name])


def _public(peers: Iterable[Peer]) -> dict[str, ServedApi]:
    return {api.name: api for api in served_apis(peers) if not api.is_internal}


def _is_shown(peer: Peer) -> bool:
    """Return whether the peer was contacted: one that has just been announced is about to be."""
    return peer.state is not PeerState.UNVERIFIED


def _state_of_peer(peer: Peer) -> tuple[str, list[str]]:
    return (state_of(peer) if _is_shown(peer) else "", _apis_of(peer))


def _apis_of(peer: Peer) -> list[str]:
    return PeerReport(peer=peer, state="").apis
