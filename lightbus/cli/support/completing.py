"""Shell completion of names on the bus, with a short timeout: a key press must not hang."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import click
from click.shell_completion import CompletionItem

from ...core.peers import Peer
from ...exceptions import LightbusException
from .catalogue import ServedApi, served_apis
from .connection import Connection
from .options import ClientOptions
from .publishers import groups_on_bus

__all__ = [
    "answer_for",
    "complete_apis",
    "complete_events",
    "complete_groups",
    "complete_names",
    "complete_peers",
    "complete_peers_and_apis",
    "complete_procedures",
]

COMPLETION_TIMEOUT = 0.6
"""Seconds for which a completion looks for peers: about as long as a user waits for a key."""

T = TypeVar("T")

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_peers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a peer: its service, or its process."""
    return _matching(_names_of(_look(context)), incomplete)


def complete_peers_and_apis(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete a peer, or an API, by one look at the bus."""
    peers = _look(context)
    return _matching(_names_of(peers) | {api.name for api in served_apis(peers) if not api.is_internal}, incomplete)


def complete_apis(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an API."""
    return _matching((api.name for api in _apis(context)), incomplete)


def complete_procedures(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete API and procedure."""
    return _matching((f"{api.name}.{name}" for api in _apis(context) for name in api.procedures), incomplete)


def complete_events(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete API and event."""
    return _matching((f"{api.name}.{name}" for api in _apis(context) for name in api.events), incomplete)


def complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an API, or one of its members."""
    apis = _apis(context)
    members = (f"{api.name}.{name}" for api in apis for name in (*api.procedures, *api.events))
    return _matching([*(api.name for api in apis), *members], incomplete)


def complete_groups(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a consumer group, of any API."""

    async def names(bus: Connection) -> set[str]:
        return {group["name"] for group in await groups_on_bus(bus)}

    return _matching(answer_for(context, names, set()), incomplete)


def _names_of(peers: Iterable[Peer]) -> set[str]:
    there = [peer.announcement for peer in peers if peer.is_up]
    return {name for peer in there for name in (peer.service, peer.process)}


def _matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


def _apis(context: click.Context) -> list[ServedApi]:
    return [api for api in served_apis(_look(context)) if not api.is_internal]


def _look(context: click.Context) -> list[Peer]:
    async def look(bus: Connection) -> list[Peer]:
        return await bus.discover_all()

    return answer_for(context, look, [])


def answer_for(context: click.Context, question: Callable[[Connection], Awaitable[T]], otherwise: T) -> T:
    """Return the answer to a question on the bus, or `otherwise` if there is none."""

    async def ask() -> T:
        bus = Connection(options)
        try:
            return await question(bus)
        finally:
            await bus.close()

    given = {name: context.params.get(name) for name in ("config_file", "bus_name", "context")}
    # as_json: notes would be printed into the line being typed.
    options = ClientOptions(wait=COMPLETION_TIMEOUT, as_json=True, **given)
    try:
        return asyncio.run(ask())
    except LightbusException:
        return otherwise  # no peer, or wrong settings: the command itself reports it
