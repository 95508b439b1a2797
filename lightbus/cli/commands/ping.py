"""`lightbus ping`: the round trip time to one peer, to the peers of an API, or to all peers."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from ...core.peers import Peer
from ...exceptions import LightbusException, LightbusTimeout, NotReachable
from ...phrases import clean
from ..support.catalogue import served_apis
from ..support.completing import complete_peers_and_apis
from ..support.connection import HINT, Connection, on_bus
from ..support.options import ClientOptions, client_options
from ..support.output import Column, duration, listed

__all__ = ["ping"]

STATISTICS = (
    Column(title="PEER"),
    Column(title="SENT", right=True),
    Column(title="RECEIVED", right=True),
    Column(title="MIN", right=True),
    Column(title="AVG", right=True),
    Column(title="MAX", right=True),
    Column(title="STDDEV", right=True, optional=1),
)


@dataclass(slots=True, kw_only=True)
class Pinged:
    """A peer, and the round trip times of its pings in seconds; None for each unanswered one."""

    peer: Peer
    times: list[float | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The peer's name in a line."""
        return f"{self.peer.announcement.service} {self.peer.announcement.process}"

    def who(self) -> dict[str, Any]:
        """Return the peer's fields of the JSON output."""
        announcement = self.peer.announcement
        return {
            "service": announcement.service,
            "process": announcement.process,
            "instance": announcement.instance,
        }

    def statistics(self) -> dict[str, Any]:
        """Return the statistics; without any answer, the times are None."""
        answered = [seconds for seconds in self.times if seconds is not None]
        return {
            "sent": len(self.times),
            "received": len(answered),
            "min": min(answered, default=None),
            "avg": statistics.fmean(answered) if answered else None,
            "max": max(answered, default=None),
            "stddev": statistics.pstdev(answered) if answered else None,
        }


@click.command()
@click.argument("target", metavar="[PEER|API]", required=False, shell_complete=complete_peers_and_apis)
@click.option("--count", "-c", type=click.IntRange(1), metavar="N", help="Pings for each. [default: until Ctrl-C]")
@click.option("--interval", "-i", type=click.FloatRange(0.0), default=1.0, show_default=True, help="Seconds between.")
@click.option("--timeout", type=click.FloatRange(0.0, min_open=True), default=1.0, show_default=True, help="Seconds.")
@client_options
def ping(options: ClientOptions, target: str | None, count: int | None, interval: float, timeout: float) -> None:
    """Measure round trips: to a peer, to those that serve an API, or to all peers.

    The statistics are shown at the end, after Ctrl-C as well. Exit code 4: a peer never answered.
    """
    on_bus(options, lambda bus: _ping(bus, target, count, interval, timeout))


async def _ping(bus: Connection, target: str | None, count: int | None, interval: float, timeout: float) -> int:
    pinged = [Pinged(peer=peer) for peer in await _targets(bus, target)]
    try:
        await bus.ask_all([each.peer for each in pinged], "info")  # not measured: it opens the connections
        number = 0
        while count is None or number < count:
            number += 1
            await asyncio.gather(*(_once(bus, each, number, timeout) for each in pinged))
            if number != count:
                await asyncio.sleep(interval)
    except asyncio.CancelledError:  # Ctrl-C is the normal end
        pass
    _summarize(bus, pinged)
    is_any_silent = any(each.times and not each.statistics()["received"] for each in pinged)
    return LightbusTimeout.exit_code if is_any_silent else 0


async def _targets(bus: Connection, target: str | None) -> Sequence[Peer]:
    known = await bus.discover_all()
    peers = [peer for peer in known if peer.is_live]
    if not peers:
        there = listed(str(peer.announcement) for peer in known)
        raise NotReachable(f"No peer answers ({bus.where}). Announced are: {there}. {HINT}")
    if target is None:
        return peers
    serving = next((api.peers for api in served_apis(peers) if api.name == target), None)
    if serving is not None:
        return serving
    try:
        return await bus.named(target, among=peers)
    except NotReachable as error:
        raise NotReachable(f"'{target}' is neither a live peer nor an API. {error}") from None


async def _once(bus: Connection, pinged: Pinged, number: int, timeout: float) -> None:
    before = time.perf_counter()
    error = ""
    try:
        await bus.ask(pinged.peer, "ping", timeout=timeout)
        seconds: float | None = time.perf_counter() - before
    except LightbusException as failure:
        seconds, error = None, str(failure)
    pinged.times.append(seconds)
    if bus.output.as_json:
        fields = {"type": "ping", "seq": number, **pinged.who(), "rtt": seconds, "error": error or None}
        bus.output.record(fields)
    else:
        style = "red" if error else ""
        bus.output.line(f"{pinged.name}: ", f"{number}  ", (clean(error) or duration(seconds), style))


def _summarize(bus: Connection, pinged: Sequence[Pinged]) -> None:
    if bus.output.as_json:
        for each in pinged:
            bus.output.record({"type": "statistics", **each.who(), **each.statistics()})
        return
    bus.output.line("")
    bus.output.table(STATISTICS, [_row(each) for each in pinged])


def _row(pinged: Pinged) -> list[str]:
    values = pinged.statistics()
    times = [duration(values[name]) or "-" for name in ("min", "avg", "max", "stddev")]
    return [pinged.name, str(values["sent"]), str(values["received"]), *times]
