"""`lightbus rate`: events and bytes per second of each event, from two readings of the publishers' counters."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from ...wire.event_names import declared_event
from ..support.connection import Connection, on_bus, passes, stop_requested
from ..support.options import ClientOptions, client_options
from ..support.output import Column, number, size, table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

__all__ = ["Counted", "Rate", "rate", "rates"]

COLUMNS = (
    Column(title="EVENT"),
    Column(title="EVENTS/S", right=True),
    Column(title="BYTES/S", right=True),
    Column(title="PUBLISHED", right=True, optional=2),
    Column(title="PUBLISHERS", right=True, optional=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """The counters of a publisher since its start, and when they were read (`at`, on a monotonic clock)."""

    at: float
    uptime: float
    events: Mapping[tuple[str, str], tuple[int, int]]
    """(API, event) -> the number of events, and their bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Events and bytes per second of one event, how many were published, and by how many workers."""

    api: str
    event: str
    events: float
    bytes: float
    published: int
    publishers: int

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {name: getattr(self, name) for name in self.__slots__}

    def row(self) -> list[str]:
        """Return the cells of its table row, in the order of `COLUMNS`."""
        counts = number(round(self.events, 1)), f"{size(self.bytes)}", number(self.published), str(self.publishers)
        return [f"{self.api}.{self.event}", *counts]


@click.command()
@click.argument("pattern", required=False, default="*")
@click.option("--interval", "-i", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many readings.")
@client_options
def rate(options: ClientOptions, pattern: str, interval: float, count: int | None) -> None:
    """Show live how many events per second are published, and how many bytes: of all, or of those like `auth.*`.

    From the counters of the publishers, so nothing is missed, and no event is sent here. Ctrl-C ends it.
    """
    on_bus(options, lambda bus: _measure(bus, pattern, interval, count))


async def _measure(bus: Connection, pattern: str, interval: float, count: int | None) -> None:
    done = stop_requested()
    await bus.discover_all()
    before = await _read(bus)
    shown = 0
    with _renderer(bus) as show:
        while shown != count and not await passes(done, interval):
            now = await _read(bus)
            show([each for each in rates(before, now) if _is_wanted(each, pattern)])
            before = now
            shown += 1


async def _read(bus: Connection) -> dict[str, Counted]:
    peers = [peer for peer in bus.known() if peer.is_up]

    async def read(instance: str, stats: Any) -> tuple[str, Counted] | None:
        answer = await stats
        return (instance, _counted(answer)) if answer else None

    answers = await asyncio.gather(*(read(peer.instance, bus.ask_or_empty(peer, "stats")) for peer in peers))
    return dict(answer for answer in answers if answer is not None)


def _counted(stats: dict[str, Any]) -> Counted:
    events: dict[tuple[str, str], tuple[int, int]] = {}
    for each in stats.get("events", ()):
        # A redelivery to one group is published under a longer name.
        name = each["api"], declared_event(each["event"])
        count, size_of = events.get(name, (0, 0))
        events[name] = count + each["published"], size_of + each.get("bytes", 0)
    return Counted(at=time.monotonic(), uptime=stats.get("uptime", 0.0), events=events)


def rates(before: Mapping[str, Counted], now: Mapping[str, Counted]) -> list[Rate]:
    """
    Return the rate of each event, from two readings by instance, the greatest first.

    For a worker that started in between, the rate is computed from its start.
    """
    found: dict[tuple[str, str], list[Any]] = {}
    for instance, counted in now.items():
        known = before.get(instance, Counted(at=counted.at - counted.uptime, uptime=0.0, events={}))
        seconds = max(counted.at - known.at, 1e-6)
        for name, (events, size_of) in counted.events.items():
            old_events, old_size = known.events.get(name, (0, 0))
            more, larger = max(0, events - old_events), max(0, size_of - old_size)
            sums = found.setdefault(name, [0.0, 0.0, 0, 0])
            for index, each in enumerate((more / seconds, larger / seconds, more, 1)):
                sums[index] += each
    listed = [
        Rate(api=api, event=event, events=sums[0], bytes=sums[1], published=sums[2], publishers=sums[3])
        for (api, event), sums in found.items()
    ]
    return sorted(listed, key=lambda each: (-each.events, each.api, each.event))


def _is_wanted(each: Rate, pattern: str) -> bool:
    is_hidden = each.api.startswith("internal.") and not pattern.startswith("internal")
    return fnmatchcase(f"{each.api}.{each.event}", pattern) and not is_hidden


@contextlib.contextmanager
def _renderer(bus: Connection) -> Iterator[Any]:
    """Yield a function that shows a reading: as JSON, as a live table on a terminal, or else as a new table each."""
    output = bus.output
    if output.as_json:
        yield lambda rows: _record(bus, rows)
    elif output.console.is_terminal:
        from rich.live import Live

        with Live(console=output.console, auto_refresh=False, redirect_stderr=False) as live:
            yield lambda rows: _draw(bus, live, rows)
    else:
        yield lambda rows: _write(bus, rows)


def _record(bus: Connection, rows: Iterable[Rate]) -> None:
    at = time.time()
    for each in rows:
        bus.output.record({"at": at, **each.fields()})


def _write(bus: Connection, rows: Sequence[Rate]) -> None:
    bus.output.line(_head(rows))
    if rows:
        bus.output.table(COLUMNS, [each.row() for each in rows])


def _draw(bus: Connection, live: Live, rows: Sequence[Rate]) -> None:
    live.update(_drawn(rows, *bus.output.console.size), refresh=True)


def _drawn(rows: Sequence[Rate], width: int, height: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    room = max(1, height - 4)
    shown, _ = table(COLUMNS, [each.row() for each in rows[:room]], width)
    more = [Text(f"and {len(rows) - room} more", style="dim")] if len(rows) > room else []
    return Group(Text(_head(rows), style="bold", no_wrap=True, overflow="ellipsis"), shown, *more)


def _head(rows: Sequence[Rate]) -> str:
    events, size_of = (sum(getattr(each, name) for each in rows) for name in ("events", "bytes"))
    return f"{datetime.now():%H:%M:%S}  {number(round(events, 1))} events/s, {size(size_of)}/s"
