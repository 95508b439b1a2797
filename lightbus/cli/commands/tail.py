"""
`lightbus tail`: the events of the bus as they happen and, with --since, those that are kept.

With --rpc the calls, too; with --acks also who has handled each event.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import click

from ...core.peers import Peer
from ...message import EventMessage
from ..support.acks import Ack, AckFollower
from ..support.calls import CallFollower
from ..support.connection import Connection, asked_to_end, on_bus, passes
from ..support.following import EventFollower, moment_given
from ..support.options import ClientOptions, client_options
from ..support.output import Cell, clean, duration, json_line, size

__all__ = ["tail"]

SETTLE = 5.0
"""Seconds for which the acknowledgements of the last events are waited for after --count."""


@click.command()
@click.argument("pattern", required=False, default="*")
@click.option(
    "--since", metavar="WHEN", help='Begin with what is kept: "0" for all, an event\'s id, or a date and time.'
)
@click.option("--rpc", is_flag=True, help="Show calls, too: who called what, what came of it, and how long it took.")
@click.option("--acks", is_flag=True, help="Show for each event which groups have handled it, once they have.")
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many events and calls.")
@client_options
def tail(options: ClientOptions, pattern: str, since: str | None, rpc: bool, acks: bool, count: int | None) -> None:
    """Show events as they happen: all, or those whose name matches, as `auth.*` does.

    It takes nothing away from anybody: it is in no consumer group, and acknowledges nothing. Ctrl-C ends it.
    """
    on_bus(options, lambda bus: _Tail(bus, pattern, count).run(moment_given(since), rpc=rpc, acks=acks))


class _Tail:
    """What is followed, and how many lines of it are still wanted."""

    def __init__(self, bus: Connection, pattern: str, count: int | None) -> None:
        self._bus = bus
        self._pattern = pattern
        self._left = count
        self._done = asked_to_end()
        self._acks: AckFollower | None = None
        self._unwritten: BaseException | None = None
        """Why a line could not be written: nobody reads any more."""

    async def run(self, since: str | datetime | None, *, rpc: bool, acks: bool) -> None:
        """Follow until it is over."""
        bus = self._bus
        await bus.look_around()
        async with AsyncExitStack() as open_now:
            calls = None
            if rpc:
                calls = CallFollower(bus, self._on_call, self._on_dropped)
                open_now.push_async_callback(calls.end)
                await calls.begin()
            if acks:
                self._acks = AckFollower(bus, self._on_ack)
                open_now.push_async_callback(self._acks.end)
            events = EventFollower(
                bus,
                self._show,
                is_wanted=lambda message: self._is_wanted(message.canonical_name),
                since=since,
                name="tail",
            )
            await events.begin()
            open_now.push_async_callback(events.end)
            what = f"the events of {', '.join(events.apis) or 'nobody yet'}{' and all calls' if rpc else ''}"
            bus.output.note(f"Following {what}; Ctrl-C ends it.")
            while not await passes(self._done, events.pause):
                events.look()
                if calls is not None:
                    calls.look()
            if self._unwritten is not None:
                raise self._unwritten
            if self._acks is not None and self._left == 0:
                await self._acks.settle(SETTLE)

    # What comes

    def _show(self, message: EventMessage) -> None:
        if self._done.is_set():
            return
        try:
            _show_event(self._bus, message)
        except (OSError, SystemExit) as error:  # a listener that fails would be a worker's matter, and this is ours
            self._unwritten = error
            self._done.set()
            return
        if self._acks is not None:
            self._acks.add(message)
        self._count()

    def _on_call(self, peer: Peer, call: dict[str, Any]) -> None:
        if not self._is_wanted(f"{call['api']}.{call['procedure']}"):
            return
        _show_call(self._bus, peer, call)
        self._count()

    def _on_ack(self, ack: Ack) -> None:
        _show_ack(self._bus, ack)

    def _on_dropped(self, peer: Peer, count: int) -> None:
        who = peer.announcement
        if self._bus.output.as_json:
            fields = {"service": who.service, "process": who.process, "instance": who.instance}
            self._bus.output.record({"type": "dropped", "count": count, **fields})
        else:
            self._bus.output.line((f"{count} calls at {who} are not shown: they were too many at a time", "yellow"))

    def _is_wanted(self, name: str) -> bool:
        return not self._done.is_set() and fnmatchcase(name, self._pattern)

    def _count(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                self._done.set()


def _show_event(bus: Connection, message: EventMessage) -> None:
    if bus.output.as_json:
        bus.output.record(
            {
                "type": "event",
                "id": message.id,
                "native_id": message.native_id,
                "api": message.api_name,
                "event": message.event_name,
                "version": message.version,
                "published_at": message.published_at,
                "publisher": message.publisher,
                "kwargs": message.kwargs,
            }
        )
        return
    publisher = bus.client.engine.snapshot.peers.get(message.publisher)
    service = "" if publisher is None else f"{publisher.announcement.service} "
    bus.output.line(
        _time(message.published_at), (message.canonical_name, "bold"), f"  {json_line(message.kwargs)}",
        (f"  {service}{message.publisher[:4]}", "dim"),
    )  # fmt: skip


def _show_call(bus: Connection, peer: Peer, call: dict[str, Any]) -> None:
    who = peer.announcement
    if bus.output.as_json:
        fields = {name: value for name, value in call.items() if name != "number"}
        served_by = {"service": who.service, "process": who.process, "instance": who.instance}
        bus.output.record({"type": "call", **fields, **served_by})
        return
    name = f"{call['api']}.{call['procedure']}"
    took = f"  {duration(call['seconds'])}  {call['caller_service']} {call['caller'][:4]} at {who.service} "
    bus.output.line(
        _time(call["at"]), (name, "bold cyan"), f"({_arguments(call)})", *_answer(call),
        (f"{took}{who.instance[:4]}", "dim"),
    )  # fmt: skip


def _arguments(call: dict[str, Any]) -> str:
    if "kwargs" in call["cut"]:
        return size(call["kwargs_bytes"])
    return ", ".join(f"{clean(name)}={json_line(value)}" for name, value in call["kwargs"].items())


def _answer(call: dict[str, Any]) -> list[Cell]:
    if call["error"] is not None:
        own = call["message"].removeprefix(f"{call['api']}.{call['procedure']} ")  # "... raised ValueError: no"
        return [(f" {own}" if own.startswith("raised ") else f" failed: {own}", "red")]
    return [" = ", size(call["result_bytes"]) if "result" in call["cut"] else json_line(call["result"])]


def _show_ack(bus: Connection, ack: Ack) -> None:
    if bus.output.as_json:
        bus.output.record({"type": "ack", **ack.fields()})
        return
    verb, style = ("a dead letter of", "red") if ack.status == "dead" else ("acked by", "green")
    name = f"{ack.message.canonical_name} {ack.message.native_id}"
    bus.output.line(_time(ack.at), (f"{name} ", "dim"), (f"{verb} {ack.group}", style))


def _time(at: float) -> Cell:
    """Return a time of day, with the date where that is not today's: what is kept, or a clock that is wrong."""
    then = datetime.fromtimestamp(at)
    date = "" if then.date() == datetime.now().date() else f"{then:%Y-%m-%d} "
    return f"{date}{then:%H:%M:%S.%f}"[:-3] + "  ", "dim"
