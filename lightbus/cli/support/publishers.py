"""The reports of publishers on the events that they store (`internal.events`), for several commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from ...core.peers import Peer
from ...events.listening.group_pages import read_groups
from ...exceptions import LightbusException, NotReachable
from .connection import ASK_TIMEOUT, ENDED, Connection, ask_peer
from .output import listed

__all__ = [
    "ask_each",
    "ask_for_groups",
    "ask_publishers",
    "code_of",
    "groups_on_bus",
    "no_such_group",
    "nothing_shown",
]


async def ask_publishers(bus: Connection, procedure: str, **kwargs: Any) -> list[tuple[Peer, Any]]:
    """Ask all peers; return the answers of those that store events. Raises NotReachable if there is no peer."""
    return await ask_each(bus, await _answering_peers(bus), procedure, **kwargs)


async def _answering_peers(bus: Connection) -> list[Peer]:
    """
    Return the peers that answer.

    For an announced peer that does not answer, a note says, once per command, that its events are missing.
    """
    peers = await bus.discover_all()
    for peer in peers:
        if not peer.is_live and peer.instance not in bus.silent:
            bus.silent.add(peer.instance)
            bus.output.note(f"{peer.announcement} does not answer ({peer.state.shown}): what it keeps is not shown.")
    for ended in bus.ended():
        if ended.instance not in bus.noted:
            bus.noted.add(ended.instance)
            bus.output.note(f"{ended} {ENDED}: what it kept is shown once a worker here serves it.")
    return [peer for peer in peers if peer.is_live]


def nothing_shown(bus: Connection, text: str) -> str:
    """Return the note for an empty list, with the restriction that some peers did not answer, if so."""
    return f"{text.removesuffix('.')}, as far as publishers answer." if bus.silent else text


def code_of(bus: Connection) -> int:
    """Return the exit code: that of NotReachable if a peer did not answer, so that the result is incomplete."""
    return NotReachable.exit_code if bus.silent else 0


async def ask_each(
    bus: Connection, peers: Sequence[Peer], procedure: str, *, quietly: bool = False, **kwargs: Any
) -> list[tuple[Peer, Any]]:
    """Ask these peers; return the answers of those that store events. Note who does not answer, unless `quietly`."""
    return await _answers(bus, peers, lambda peer: _ask(bus, peer, procedure, kwargs), quietly=quietly)


async def ask_for_groups(
    bus: Connection, peers: Sequence[Peer], *, api: str = "", quietly: bool = False
) -> list[tuple[Peer, list[dict[str, Any]]]]:
    """Read the groups (of one API) from these peers, page by page; else as `ask_each`."""

    async def ask(peer: Peer) -> list[dict[str, Any]]:
        return await read_groups(lambda which: _ask(bus, peer, "groups", {"api": api, **which}))

    return await _answers(bus, peers, ask, quietly=quietly)


async def _ask(bus: Connection, peer: Peer, procedure: str, kwargs: dict[str, Any]) -> Any:
    return await ask_peer(bus.client, peer, f"internal.events.{procedure}", kwargs, timeout=ASK_TIMEOUT)


async def _answers(
    bus: Connection, peers: Sequence[Peer], question: Callable[[Peer], Awaitable[Any]], *, quietly: bool
) -> list[tuple[Peer, Any]]:
    async def ask(peer: Peer) -> Any:
        try:
            return await question(peer)
        except LightbusException as error:
            bus.unanswered.note(peer, error)
            if not quietly:
                bus.silent.add(peer.instance)
                bus.output.note(f"{peer.announcement} does not answer that: {error}")
            return None

    answers = await asyncio.gather(*map(ask, peers))
    return [(peer, answer) for peer, answer in zip(peers, answers, strict=True) if answer is not None]


async def groups_on_bus(bus: Connection, api: str = "") -> list[dict[str, Any]]:
    """Return the report of each publisher on each group, with the publisher, by API and name."""
    found = [
        {**group, "publisher": peer.announcement.service, "instance": peer.instance}
        for peer, groups in await ask_for_groups(bus, await _answering_peers(bus), api=api)
        for group in groups
    ]
    return sorted(found, key=lambda each: (each["api"], each["name"], each["publisher"], each["instance"]))


def no_such_group(name: str, known: Iterable[str]) -> NotReachable:
    """Return the error for an unknown group, with the names of the known ones."""
    there = listed(sorted({*known})) or "none"
    return NotReachable(f"No publisher knows the group '{name}'. There are: {there}.")
