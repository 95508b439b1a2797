"""
`lightbus tail`: the events of the bus as they happen and, with --since, stored ones.

With --rpc it shows calls, too; with --acks also the groups that have handled each event.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import datetime
from typing import Any

import click

from ...core.peers import Peer
from ...message import EventMessage
from ..support.acks import AckFollower, GroupAck
from ..support.calls import CallFollower
from ..support.completing import complete_names
from ..support.connection import Connection, on_bus, passes, stop_requested
from ..support.filters import MessageFilter, filter_options
from ..support.following import EventFollower
from ..support.message_lines import event_fields, show_ack, show_call, show_event
from ..support.moments import parse_since
from ..support.options import ClientOptions, client_options

__all__ = ["tail"]

SETTLE = 5.0
"""Seconds to wait for acknowledgements of the last events after --count."""


@click.command()
@click.argument("pattern", required=False, default="*", shell_complete=complete_names)
@click.option(
    "--since", metavar="WHEN", help='Begin with what is kept: "0" for all, an event\'s id, a date and time, or 10m.'
)
@click.option("--rpc", is_flag=True, help="Show calls, too: caller, procedure, result and duration.")
@click.option("--calls", is_flag=True, help="Show calls, and no events.")
@click.option("--errors", is_flag=True, help="Show calls that failed, and nothing else.")
@click.option("--acks", is_flag=True, help="Show for each event which groups have handled it, once they have.")
@filter_options
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many events and calls.")
@client_options
def tail(options: ClientOptions, pattern: str, since: str | None, count: int | None, **given: Any) -> None:
    """Show events as they happen: all, or those whose name matches, as `auth.*` does.

    lightbus tail 'shop.*' --where 'amount > 100' --from shop

    It takes no events away from listeners: it is in no consumer group, and acknowledges nothing. Ctrl-C ends it.
    """
    which = {name: given.pop(name) for name in ("where", "sender")}
    rpc, calls, errors, acks = (given[name] for name in ("rpc", "calls", "errors", "acks"))
    has_events = not (calls or errors)
    if not has_events and (acks or since is not None):
        raise click.UsageError("--calls and --errors show no events, which --since and --acks are about. Use --rpc.")
    begin, wanted = parse_since(since), MessageFilter(pattern=pattern, **which)

    async def follow(bus: Connection) -> None:
        await _Tail(bus, wanted, count, only_errors=errors).run(
            begin, rpc=rpc or not has_events, events=has_events, acks=acks
        )

    on_bus(options, follow)


class _Tail:
    """The followers of one command, and the number of lines left to show."""

    def __init__(self, bus: Connection, wanted: MessageFilter, count: int | None, *, only_errors: bool) -> None:
        self._bus = bus
        self._filter = wanted
        self._only_errors = only_errors
        self._left = count
        self._done = stop_requested()
        self._acks: AckFollower | None = None
        self._unwritten: BaseException | None = None
        """The error of writing a line, as when the reader of the output is gone."""

    async def run(self, since: str | datetime | None, *, rpc: bool, events: bool, acks: bool) -> None:
        """Follow until a signal, or the wanted number of lines."""
        bus = self._bus
        await bus.discover_all()
        async with AsyncExitStack() as open_now:
            calls = None
            if rpc:
                calls = CallFollower(bus, self._on_call, self._on_dropped)
                open_now.push_async_callback(calls.end)
                await calls.begin()
            if acks:
                self._acks = AckFollower(bus, self._on_ack)
                open_now.push_async_callback(self._acks.end)
            follower = self._events_since(since)
            if events:
                await follower.begin()
                open_now.push_async_callback(follower.end)
            bus.output.note(f"Following {self._what(follower.apis, rpc=rpc, events=events)}; Ctrl-C ends it.")
            while not await passes(self._done, follower.pause):
                if events:
                    follower.look()
                if calls is not None:
                    calls.look()
            if self._acks is not None and self._left == 0 and self._unwritten is None:
                await self._acks.settle(SETTLE)
            if self._unwritten is not None:
                raise self._unwritten

    def _events_since(self, since: str | datetime | None) -> EventFollower:
        def is_wanted(message: EventMessage) -> bool:
            return self._is_wanted(message.canonical_name, message.kwargs, sender=message.publisher)

        return EventFollower(self._bus, self._show, is_wanted=is_wanted, since=since, name="tail")

    def _what(self, apis: list[str], *, rpc: bool, events: bool) -> str:
        calls = ["calls that fail" if self._only_errors else "all calls"] if rpc else []
        return " and ".join([*([f"the events of {', '.join(apis) or 'no API yet'}"] if events else []), *calls])

    # Callbacks of the followers

    def _show(self, message: EventMessage) -> None:
        if self._done.is_set():
            return
        with self._writing():
            show_event(self._bus, event_fields(message))
            if self._acks is not None:
                self._acks.add(message)
            self._count()

    def _on_call(self, peer: Peer, call: dict[str, Any]) -> None:
        if self._only_errors and call["error"] is None:
            return
        name = f"{call['api']}.{call['procedure']}"
        if self._is_wanted(name, call["kwargs"], sender=call["caller"], service=call["caller_service"]):
            with self._writing():
                show_call(self._bus, peer, call)
                self._count()

    def _on_ack(self, ack: GroupAck) -> None:
        with self._writing():
            show_ack(self._bus, ack)

    def _on_dropped(self, peer: Peer, count: int) -> None:
        who, output = peer.announcement, self._bus.output
        with self._writing():
            if output.as_json:
                fields = {"service": who.service, "process": who.process, "instance": who.instance}
                output.record({"type": "dropped", "count": count, **fields})
            else:
                output.line((f"{count} calls at {who} are not shown: there were too many at a time", "yellow"))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """End the command if the body cannot write: that is an error of the output, not of a listener or a worker."""
        try:
            yield
        except (OSError, SystemExit) as error:
            self._unwritten = self._unwritten or error
            self._done.set()

    def _is_wanted(self, name: str, kwargs: Any, **sender: str) -> bool:
        return not self._done.is_set() and self._filter.wants(self._bus, name, kwargs, **sender)

    def _count(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._done.set()
