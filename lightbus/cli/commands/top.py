"""`lightbus top`: one live screen of what the workers do. It is computed from two readings, and then drawn."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ...exceptions import UnsupportedUse
from ..support.connection import Connection, asked_to_end, on_bus, passes
from ..support.loads import COLUMNS, GROUP_COLUMNS, GroupLag, Load, Reading, lags, loads, ordered
from ..support.options import ClientOptions, client_options
from ..support.output import number, table
from ..support.publishers import ask_each

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["top"]

SORTS = {"s": "service", "c": "calls", "p": "p99", "e": "errors", "v": "events", "l": "lag"}
"""Key -> what the rows are sorted by; all but the service from the greatest down."""

GROUPS_EVERY = 2.0
"""Seconds between two questions after the groups at least: to count what a group has still to do takes a publisher
some milliseconds where that is much."""

LOOK_EVERY = 0.2
"""Seconds after which a signal to end is obeyed."""

QUIT = ("q", "\x1b", "\x03")
"""q, Escape, and Ctrl-C where the terminal passes it on as a key."""


@click.command()
@click.option("--interval", "-i", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True, help="Seconds.")
@click.option("--sort", type=click.Choice([*SORTS.values()]), default="calls", show_default=True, help="Sort by this.")
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many readings.")
@client_options
def top(options: ClientOptions, interval: float, sort: str, count: int | None) -> None:
    """Show live what the workers do: calls, latency, errors, queues, events, lag; and how far groups are behind.

    Keys: s service, c calls, p p99, e errors, v events, l lag sort; q quits. P50 and P99 are those of the slowest
    procedure. A worker's LAG is what waits for a listener in it, a group's what publishers keep for it. With --json:
    one object per worker, or group, and reading.
    """
    if not options.as_json and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("top draws on a terminal, and this is none. Use --json, with --count.")
    on_bus(options, lambda bus: _watch(bus, interval, sort, count))


async def _watch(bus: Connection, interval: float, sort: str, count: int | None) -> None:
    done = asked_to_end()
    await bus.look_around()
    screen = _Stream(bus, done) if bus.output.as_json else _Screen(bus, sort, done)
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
                screen.show(loads(before, now.values()), groups)
            before = now
            if count is None or number_of < count:
                await screen.wait(interval)


async def _read(bus: Connection) -> dict[str, Reading]:
    peers = [peer for peer in bus.known() if peer.is_up]
    told = await bus.told_by_all(peers, "stats")
    at = time.monotonic()
    return {peer.instance: Reading(peer=peer, at=at, stats=stats) for peer, stats in zip(peers, told, strict=True)}


async def _read_groups(bus: Connection) -> list[GroupLag]:
    told = await ask_each(bus, [peer for peer in bus.known() if peer.is_up], "groups", quietly=True)
    return lags(groups for _, groups in told)


class _Stream:
    """What programs read: an object for each worker and reading."""

    def __init__(self, bus: Connection, done: asyncio.Event) -> None:
        self._bus = bus
        self._done = done

    @property
    def over(self) -> bool:
        """Whether it is to end."""
        return self._done.is_set()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        yield

    def show(self, rows: Sequence[Load], groups: Sequence[GroupLag]) -> None:
        at = time.time()
        for fields in [*(row.fields() for row in rows), *(group.fields() for group in groups)]:
            self._bus.output.record({"at": at, **fields})

    async def wait(self, seconds: float) -> None:
        await passes(self._done, seconds)


class _Screen:
    """The terminal: the alternate screen, and keys that are read one by one."""

    def __init__(self, bus: Connection, sort: str, done: asyncio.Event) -> None:
        self._done = done
        self._bus = bus
        self._sort = sort
        self._rows: Sequence[Load] = ()
        self._groups: Sequence[GroupLag] = ()
        self._key = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether it is to end."""
        return self._done.is_set()

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Take the screen over, and give it back as it was."""
        from rich.live import Live

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

    def show(self, rows: Sequence[Load], groups: Sequence[GroupLag]) -> None:
        """Draw new rows."""
        self._rows = rows
        self._groups = groups
        self._live.update(self._drawn(), refresh=True)

    async def wait(self, seconds: float) -> None:
        """Return after so many seconds, or at once when it is over; a key that sorts is obeyed meanwhile."""
        end = time.monotonic() + seconds
        while not self.over and (left := end - time.monotonic()) > 0:
            self._key.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._key.wait(), min(left, LOOK_EVERY))
                self._live.update(self._drawn(), refresh=True)

    def _on_keys(self, descriptor: int) -> None:
        pressed = os.read(descriptor, 64).decode(errors="ignore")
        if not pressed or pressed in QUIT or "q" in pressed:
            self._done.set()
        for key in pressed:
            self._sort = SORTS.get(key, self._sort)
        self._key.set()

    def _drawn(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        rows = ordered(self._rows, self._sort)
        width, height = self._bus.output.console.size
        calls, events = (sum(getattr(row, name) for row in rows) for name in ("calls", "events"))
        head = f"bus {self._bus.name}: {len(rows)} workers, {number(round(calls, 1))} calls/s, "
        head += f"{number(round(events, 1))} events/s"
        if self._groups:
            head += f", {len(self._groups)} groups, lag {number(sum(group.lag for group in self._groups))}"
        keys = f"by {self._sort}: {', '.join(f'{key} {name}' for key, name in SORTS.items())}; q quits"
        # Of the lines between head and keys a third is for the groups, each table with a line of its own as its head.
        groups = self._groups[: max(1, (height - 4) // 3)]
        room = max(1, height - 5 - len(groups)) if groups else max(1, height - 4)
        shown, _ = table(COLUMNS, [row.row() for row in rows[:room]], width)
        more = [Text(f"and {len(rows) - room} more", style="dim")] if len(rows) > room else []
        lags, _ = table(GROUP_COLUMNS, [group.row() for group in groups], width)
        return Group(
            Text(head, style="bold", no_wrap=True, overflow="ellipsis"),
            shown,
            *more,
            *([lags] if groups else []),
            Text(keys, style="dim", no_wrap=True, overflow="ellipsis"),
        )
