"""`lightbus top`: a live screen of the workers' load, computed from two readings of their statistics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator

import click
from rich.console import RenderableType
from rich.live import Live

from ...exceptions import UnsupportedUse
from ..support.connection import Connection, on_bus, passes, stop_requested
from ..support.loads import GroupLag, Reading, lags, loads
from ..support.options import ClientOptions, client_options
from ..support.procedure_loads import procedure_loads
from ..support.publishers import ask_for_groups
from ..support.top_screen import Rows, drawn
from ..support.top_view import SORTS, TopView

__all__ = ["top"]

GROUPS_EVERY = 2.0
"""The fewest seconds between two readings of the groups: counting a large lag takes a publisher some
milliseconds."""

LOOK_EVERY = 0.2
"""Seconds after which a signal to end is noticed."""


@click.command()
@click.option("--interval", "-i", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
@click.option("--sort", type=click.Choice([*SORTS.values()]), default="calls", show_default=True, help="Sort by this.")
@click.option("--procedures", is_flag=True, help="Show each procedure instead of each worker.")
@click.option("--only", default="", metavar="NAME", help="Only what has this in its name; * stands for anything.")
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many readings.")
@client_options
def top(options: ClientOptions, interval: float, sort: str, procedures: bool, only: str, count: int | None) -> None:
    """Show live what the workers do: calls, latency, errors, queues, events, lag; and how far groups are behind.

    Keys: s service, c calls, p p99, e errors, v events, l lag sort; r shows procedures or workers, / only some; q
    quits. P50 and P99 are those of the slowest procedure, or worker. A worker's LAG is the events queued in it, a
    group's the events that publishers keep for it. With --json: an object per worker, or procedure, or group, and
    reading.
    """
    if not options.as_json and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("top needs a terminal, and this is none. Use --json, with --count.")
    view = TopView(sort=sort, by_procedure=procedures, only=only)
    on_bus(options, lambda bus: _watch(bus, view, interval, count))


async def _watch(bus: Connection, view: TopView, interval: float, count: int | None) -> None:
    done = stop_requested()
    await bus.discover_all()
    screen = _TopRecords(bus, view, done) if bus.output.as_json else _Screen(bus, view, done)
    before: dict[str, Reading] = {}
    number_of = 0
    groups: list[GroupLag] = []
    groups_at = -GROUPS_EVERY
    with screen.open():
        while not screen.over and (count is None or number_of < count):
            now = await _read(bus)
            if time.monotonic() - groups_at >= GROUPS_EVERY:
                groups, groups_at = await _read_groups(bus), time.monotonic()
            if before:
                number_of += 1
                screen.show(Rows(loads(before, now.values()), procedure_loads(before, now.values()), groups))
            before = now
            if count is None or number_of < count:
                await screen.wait(interval)


async def _read(bus: Connection) -> dict[str, Reading]:
    peers = [peer for peer in bus.known() if peer.is_up]
    answers = await bus.ask_all(peers, "stats")
    at = time.monotonic()
    return {peer.instance: Reading(peer=peer, at=at, stats=stats) for peer, stats in zip(peers, answers, strict=True)}


async def _read_groups(bus: Connection) -> list[GroupLag]:
    answers = await ask_for_groups(bus, [peer for peer in bus.known() if peer.is_up], quietly=True)
    return lags(groups for _, groups in answers)


class _TopRecords:
    """The JSON output: an object for each worker, or procedure, and reading."""

    def __init__(self, bus: Connection, view: TopView, done: asyncio.Event) -> None:
        self._bus = bus
        self._view = view
        self._done = done

    @property
    def over(self) -> bool:
        """Whether the command is to end."""
        return self._done.is_set()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        yield

    def show(self, rows: Rows) -> None:
        at = time.time()
        which = rows.procedures_shown(self._view) if self._view.by_procedure else rows.workers_shown(self._view)
        for row in (*which, *rows.groups_shown(self._view)):
            self._bus.output.record({"at": at, **row.fields()})

    async def wait(self, seconds: float) -> None:
        await passes(self._done, seconds)


class _Screen:
    """The terminal: the alternate screen, and single key presses."""

    def __init__(self, bus: Connection, view: TopView, done: asyncio.Event) -> None:
        self._done = done
        self._bus = bus
        self._view = view
        self._rows = Rows([], [], [])
        self._key = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether the command is to end."""
        return self._done.is_set()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take over the screen, and restore it at the end."""
        descriptor = sys.stdin.fileno()
        try:
            before = termios.tcgetattr(descriptor)
        except termios.error as error:
            raise UnsupportedUse(f"This terminal cannot be set up for top: {error}. Use --json.") from error
        loop = asyncio.get_running_loop()
        console = self._bus.output.console
        try:
            tty.setcbreak(descriptor)
            loop.add_reader(descriptor, self._on_keys, descriptor)
            with Live(self._drawn(), console=console, screen=True, auto_refresh=False, redirect_stderr=False) as live:
                self._live = live
                yield
        finally:
            loop.remove_reader(descriptor)
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def show(self, rows: Rows) -> None:
        """Draw new rows."""
        self._rows = rows
        self._live.update(self._drawn(), refresh=True)

    async def wait(self, seconds: float) -> None:
        """Return after so many seconds, or at once when the command is to end; key presses take effect meanwhile."""
        end = time.monotonic() + seconds
        while not self.over and (left := end - time.monotonic()) > 0:
            self._key.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK_EVERY)):
                    await self._key.wait()
                self._live.update(self._drawn(), refresh=True)

    def _on_keys(self, descriptor: int) -> None:
        self._view.press(os.read(descriptor, 64).decode(errors="ignore"))
        if self._view.over:
            self._done.set()
        self._key.set()

    def _drawn(self) -> RenderableType:
        return drawn(self._rows, self._view, bus=self._bus.name, size=self._bus.output.console.size)
