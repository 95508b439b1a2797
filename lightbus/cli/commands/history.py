"""`lightbus history`: the latest stored events, over all journals, in order of time."""

from __future__ import annotations

from typing import Any

import click

from ..support.completing import complete_events
from ..support.connection import Connection, on_bus
from ..support.filters import MessageFilter, filter_options
from ..support.kept import Journals
from ..support.message_lines import show_event
from ..support.moments import parse_time
from ..support.options import ClientOptions, client_options
from ..support.publishers import code_of, nothing_shown

__all__ = ["history"]

ADVANCE_EVERY = 500
"""Events between two updates of the progress bar."""


@click.command()
@click.argument("pattern", required=False, default="*", shell_complete=complete_events)
@click.option("--since", metavar="WHEN", help='Not those before: "2026-01-31 12:00", or how long ago: 10m, 2h, 3d.')
@click.option("--until", metavar="WHEN", help="Not those after; in the same forms.")
@filter_options
@click.option(
    "--limit", "-n", type=click.IntRange(0), default=20, show_default=True, metavar="N", help="The latest N; 0: all."
)
@click.option("--internal", is_flag=True, help="Show those of internal APIs, too.")
@client_options
def history(
    options: ClientOptions, pattern: str, since: str | None, until: str | None, limit: int, internal: bool, **which: Any
) -> None:
    """Show the latest stored events: all, or those whose name matches, as `auth.*` does.

    lightbus history shop.order_placed --since 2h --where 'amount > 100'

    Oldest first, over the journals of all publishers. `lightbus tail --since` continues with new events, and
    `lightbus inspect` finds a single event. The exit code is 3 if a peer does not answer, so that the list may be
    incomplete.
    """
    between = parse_time(since, "--since"), parse_time(until, "--until")
    wanted = MessageFilter(pattern=pattern, **which)
    on_bus(options, lambda bus: _HistoryQuery(bus, wanted, between, internal=internal).run(limit))


class _HistoryQuery:
    """A search among the stored events."""

    def __init__(
        self, bus: Connection, wanted: MessageFilter, between: tuple[float | None, float | None], *, internal: bool
    ) -> None:
        self._bus = bus
        self._wanted = wanted
        self._since, self._until = between
        self._internal = internal or wanted.pattern.startswith("internal")
        api, event = wanted.names
        self._journals = Journals(bus, api=api, event=event)

    async def run(self, limit: int) -> int:
        """Show the latest events; return the exit code."""
        await self._journals.look()
        shown = await (self._show_latest(limit) if limit else self._show_all())
        if self._journals.failure is not None:
            raise self._journals.failure
        if not shown:
            self._bus.output.note(nothing_shown(self._bus, "No stored event matches."))
        return code_of(self._bus)

    async def _show_latest(self, limit: int) -> int:
        """Read the journals from their ends until `limit` events are found; return how many were found."""
        latest: list[dict[str, Any]] = []
        read = 0
        with self._bus.output.progress("Reading", self._journals.total) as advance:
            async for event in self._journals.newest_first(limit, (self._since, self._until)):
                read += 1
                if read % ADVANCE_EVERY == 0:
                    advance(read, "")
                if self._is_wanted(event):
                    latest.append(event)
                    if len(latest) == limit:
                        break
        for event in reversed(latest):
            show_event(self._bus, event)
        return len(latest)

    async def _show_all(self) -> int:
        """Show events as they are read, without collecting them; return how many there are."""
        shown = read = 0
        with self._bus.output.progress("Reading", self._journals.total) as advance:
            async for event in self._journals.events():
                read += 1
                if read % ADVANCE_EVERY == 0:
                    advance(read, "")
                if self._is_wanted(event):
                    shown += 1
                    show_event(self._bus, event)
        return shown

    def _is_wanted(self, event: dict[str, Any]) -> bool:
        at: float = event["published_at"]
        if (self._since is not None and at < self._since) or (self._until is not None and at > self._until):
            return False
        if event["api"].startswith("internal.") and not self._internal:
            return False
        name = f"{event['api']}.{event['event']}"
        return self._wanted.wants(self._bus, name, event["kwargs"], sender=event["publisher"])
