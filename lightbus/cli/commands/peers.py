"""`lightbus peers`: the peers on the bus. Only a peer that has just answered a ping is shown as *up*."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from ...core.peers import Peer
from ...exceptions import LightbusException, NotReachable
from ..support.completing import complete_peers
from ..support.connection import Connection, on_bus
from ..support.lists import Listing, ListView, Row, list_options, show_list
from ..support.options import ClientOptions, client_options
from ..support.output import Cell, Column, Output, ago, duration, number

__all__ = ["ENDED_STATE", "STYLES", "PeerReport", "peers", "query_peers", "state_of"]

COLUMNS = (
    Column(title="SERVICE"),
    Column(title="PROCESS", optional=4),
    Column(title="HOST", optional=3),
    Column(title="ENDPOINT", optional=9),
    Column(title="APIS"),
    Column(title="LISTENERS", optional=7),
    Column(title="UP FOR", right=True, optional=2),
    Column(title="VERSION", optional=8),
    Column(title="LOAD", right=True, optional=5),
    Column(title="RTT", right=True),
    Column(title="STATE"),
)

PROCEDURES = (
    Column(title="PROCEDURE"),
    Column(title="CALLS", right=True),
    Column(title="ERRORS", right=True),
    Column(title="P50", right=True),
    Column(title="P99", right=True),
    Column(title="CALLERS", optional=1),
)

EVENTS = (Column(title="EVENT"), Column(title="PUBLISHED", right=True))

LISTENERS = (
    Column(title="LISTENER"),
    Column(title="EVENTS", optional=1),
    Column(title="HANDLED", right=True),
    Column(title="WAITING", right=True),
    Column(title="FAILED", right=True),
    Column(title="DROPPED", right=True),
    Column(title="STATE"),
)

ENDED_STATE = "gone"

STYLES = {"up": "green", "draining": "yellow", "suspect": "yellow", "refused": "red", "unverified": "red"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """
    A peer with its present answers.

    Attributes:
        peer: the peer as the registry knows it.
        state: `up` and `draining` have answered; `suspect` was up, and does not answer; `unverified` never answered;
            `refused` refuses our connection; `gone` was killed, which only a command that runs for a while can see.
        rtt: seconds from a ping to its answer; None without an answer.
        info, stats: its INFO and STATS; empty without an answer.

    """

    peer: Peer
    state: str
    rtt: float | None = None
    info: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def is_silent(self) -> bool:
        """Whether the peer is running and does not answer, except while it shuts down."""
        return self.rtt is None and self.state not in ("draining", ENDED_STATE)

    @property
    def has_ended(self) -> bool:
        """Whether the peer was killed; it is still listed for a while."""
        return self.state == ENDED_STATE

    @property
    def apis(self) -> list[str]:
        """The public APIs that the peer advertises."""
        announcement = self.peer.announcement
        internal = {api.name for api in announcement.apis or () if api.internal}
        return sorted({*(announcement.api_names or ())} - internal)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        announcement, info, stats = self.peer.announcement, self.info, self.stats
        return {
            "service": announcement.service,
            "process": announcement.process,
            "instance": announcement.instance,
            "host": announcement.host,
            "pid": info.get("pid"),
            "endpoint": self.peer.endpoint or None,
            "apis": self.apis,
            "listeners": _listeners(info),
            "started_at": info.get("started_at"),
            "version": info.get("version"),
            "running": stats.get("running"),
            "queued": stats.get("queued"),
            "concurrency": stats.get("concurrency"),
            "rtt": self.rtt,
            "state": self.state,
            "stopped_listeners": self.stopped,
            "found_by": self.peer.source.value,
        }

    def row(self) -> list[Cell]:
        """Return the cells of its table row, in the order of `COLUMNS`."""
        announcement, info, stats = self.peer.announcement, self.info, self.stats
        return [
            announcement.service,
            announcement.process,
            announcement.host,
            self.peer.endpoint,
            ", ".join(self.apis) or "-",
            ", ".join(_listeners(info)) or "-",
            _running(info) if info else "",
            str(info.get("version", "")),
            f"{stats['running'] + stats['queued']}/{stats['concurrency']}" if stats else "",
            duration(self.rtt),
            self._state_cell(),
        ]

    @property
    def stopped(self) -> list[str]:
        """The names of its listeners that have stopped because their handlers failed."""
        return [each["name"] for each in self.stats.get("listeners", ()) if each.get("stopped")]

    def _state_cell(self) -> Cell:
        if self.stopped:
            count = len(self.stopped)
            return f"{self.state}, {count} {'listener' if count == 1 else 'listeners'} stopped", "red"
        return self.state, STYLES.get(self.state, "")


@click.group(invoke_without_command=True)
@list_options
@client_options
@click.pass_context
def peers(context: click.Context, options: ClientOptions, view: ListView) -> None:
    """Show the peers of the bus, and which of them answer.

    LOAD is the calls that run and are queued, of the most that may run at a time; RTT is the time of a ping.
    """
    if context.invoked_subcommand is None:
        on_bus(options, lambda bus: show_list(bus, view, COLUMNS, _list))
    else:
        context.obj = options


@peers.command("info")
@click.argument("name", shell_complete=complete_peers)
@client_options
@click.pass_obj
def info(group_options: ClientOptions, options: ClientOptions, name: str) -> None:
    """Show all details of the peers of a service, of a process, or with an instance id that begins so."""
    on_bus(options.over(group_options), lambda bus: _show(bus, name))


async def _list(bus: Connection) -> Listing:
    found = await query_peers(bus, await bus.discover_all())
    rows = [Row(fields=report.fields(), cells=report.row()) for report in found]
    return Listing(rows=rows, empty="No peer is on the bus.", code=_code(found))


def _code(found: list[PeerReport]) -> int:
    """Return the exit code: that of NotReachable if no peer has answered."""
    return 0 if any(each.rtt is not None for each in found) else NotReachable.exit_code


async def _show(bus: Connection, name: str) -> int:
    found = await query_peers(bus, await bus.named(name))
    for report in found:
        health = await bus.ask_or_empty(report.peer, "health")
        if bus.output.as_json:
            bus.output.record({**report.fields(), "health": health, "stats": report.stats})
        else:
            _describe(bus.output, report, health)
    return _code(found)


async def query_peers(bus: Connection, found: list[Peer]) -> list[PeerReport]:
    """Ping peers, all at once, and ask those that answer for their identity and load."""
    return [*await asyncio.gather(*(_query_peer(bus, peer) for peer in found))]


async def _query_peer(bus: Connection, peer: Peer) -> PeerReport:
    if not peer.is_up:
        return PeerReport(peer=peer, state=state_of(peer))
    try:
        await bus.ask(peer, "ping")  # not measured: it opens the connection
        before = time.perf_counter()
        await bus.ask(peer, "ping")
        rtt = time.perf_counter() - before
    except LightbusException:
        return PeerReport(peer=peer, state="suspect")
    info, stats = await asyncio.gather(bus.ask_or_empty(peer, "info"), bus.ask_or_empty(peer, "stats"))
    return PeerReport(peer=peer, state="up", rtt=rtt, info=info, stats=stats)


def state_of(peer: Peer) -> str:
    """Return the state to show for a peer that was not asked just now."""
    return peer.state.shown


def _listeners(info: dict[str, Any]) -> list[str]:
    return [f"{each['name']}: {each['api']}.{event}" for each in info.get("listeners", []) for event in each["events"]]


def _describe(output: Output, report: PeerReport, health: dict[str, Any]) -> None:
    for name, value in _facts(report, health):
        output.line((f"{name:<11}", "bold"), value)
    stats = report.stats
    if procedures := stats.get("procedures"):
        output.line("")
        output.table(PROCEDURES, [_procedure(each) for each in procedures])
    if events := stats.get("events"):
        output.line("")
        output.table(EVENTS, [[f"{each['api']}.{each['event']}", number(each["published"])] for each in events])
    if listeners := stats.get("listeners"):
        output.line("")
        output.table(LISTENERS, [_listener(each) for each in listeners])


def _facts(report: PeerReport, health: dict[str, Any]) -> Iterator[tuple[str, str]]:
    fields = report.fields()
    yield "peer", f"{fields['service']} {fields['process']}"
    yield "instance", fields["instance"]
    yield "host", f"{fields['host']}, process {fields['pid']}" if report.info else fields["host"]
    yield "endpoint", f"{fields['endpoint']}, found by {fields['found_by']}"
    yield "state", f"{report.state}, answers in {duration(report.rtt)}" if report.rtt else report.state
    if report.info:
        yield "version", f"lightbus {fields['version']}, does {', '.join(report.info.get('features', [])) or 'nothing'}"
        yield "up for", _running(report.info)
    yield "apis", ", ".join(f"{api.name} (version {api.version})" for api in report.peer.announcement.apis or ())
    if report.stats:
        load = f"{fields['running']} calls run, {fields['queued']} wait, {fields['concurrency']} may run at a time"
        yield "load", load
    if clients := report.stats.get("clients"):
        yield "clients", ", ".join(f"{each} ({clients[each]})" for each in sorted(clients))
    if refused := report.stats.get("refused_connections"):
        yield "refused", "connections: " + ", ".join(f"{each} ({refused[each]})" for each in sorted(refused))
    if dropped := report.stats.get("dropped_answers"):
        yield "dropped", f"{number(dropped)} answers: who had asked was gone, or did not read"
    found = [each for what in ("problems", "losses", "refused") for each in health.get(what, [])]
    for problem in found or (["none"] if health else ["not known: it does not answer"]):
        yield "problems", problem


def _procedure(each: dict[str, Any]) -> list[Cell]:
    name = f"{each['api']}.{each['procedure']}"
    times = duration(each["p50"]), duration(each["p99"])
    callers = ", ".join(f"{service} ({calls})" for service, calls in sorted(each["callers"].items()))
    return [name, number(each["calls"]), number(each["errors"]), *times, callers]


def _listener(each: dict[str, Any]) -> list[Cell]:
    events = ", ".join(f"{each['api']}.{event}" for event in each["events"])
    counts = sum(each["handled"].values()), each["waiting"], each["failed"], each["dropped"]
    state: Cell = ("stopped", "red") if each.get("stopped") else "runs"
    return [each["name"], events, *map(number, counts), state]


def _running(info: dict[str, Any]) -> str:
    """Return for how long a peer has run, by its own count: clocks may differ, or be adjusted."""
    return ago(0.0, info["uptime"]) if "uptime" in info else ago(info["started_at"], time.time())
