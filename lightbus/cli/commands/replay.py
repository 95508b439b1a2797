"""`lightbus replay`: fire the events of a file again, at their original pace or another one."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import click

from ...exceptions import LightbusException, UnsupportedUse
from ..support.connection import Connection, on_bus, passes, stop_requested
from ..support.options import ClientOptions, client_options
from ..support.recording import RecordedEvent, Recording

__all__ = ["replay"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("pattern", required=False, default="*")
@click.option("--speed", type=click.FloatRange(0.0), default=1.0, show_default=True, metavar="X",
              help="So many times as fast as they were fired; 0: without pauses.")  # fmt: skip
@click.option(
    "--skip", type=click.IntRange(0), default=0, metavar="N", help="Leave out the first N events of the file."
)
@click.option("--again", is_flag=True, help="Fire them also on the bus that they were recorded on.")
@client_options
def replay(options: ClientOptions, file: Path, pattern: str, speed: float, skip: int, again: bool) -> None:
    """Fire the events that `lightbus record` wrote: all, or those whose name matches, as `auth.*` does.

    lightbus replay --bus-name test events.jsonl --speed 10

    They are new events, with new ids and times, and listeners handle them. So firing them on the bus that they are from
    needs --again. An API that no peer serves is an error before any event is fired.
    """
    recording = Recording(file)

    def wanted() -> Iterator[RecordedEvent]:
        return (each for each in itertools.islice(recording, skip, None) if fnmatchcase(each.name, pattern))

    apis = Counter(each.api for each in wanted())  # the whole file is read before any event is fired
    on_bus(options, lambda bus: _replay(bus, wanted(), apis, recording.bus, speed=speed, again=again))


async def _replay(
    bus: Connection, events: Iterator[RecordedEvent], apis: Counter[str], recorded_on: str, *, speed: float, again: bool
) -> int | None:
    if bus.name == recorded_on and not again:
        raise UnsupportedUse(
            f"These events are from the bus '{bus.name}' itself, whose listeners would handle them a second time. Name "
            "another bus (--bus-name test), or say that it is meant: --again."
        )
    for api in sorted(apis):
        await bus.find(api)
    done = stop_requested()
    began = time.monotonic()
    fired = 0
    pace = _ReplayPace(speed)
    with bus.output.progress("Fired", apis.total()) as advance:
        for event in events:
            if not await _is_time(done, began + pace.due(event.published_at)):
                break
            await _fire(bus, event, fired)
            fired += 1
            advance(fired, event.name)
    seconds = time.monotonic() - began
    if bus.output.as_json:
        bus.output.record({"fired": fired, "of": apis.total(), "seconds": seconds})
    else:
        bus.output.line((f"{fired} of {apis.total()}", "bold"), f" events fired in {seconds:.1f} s")
    return None


async def _is_time(done: asyncio.Event, at: float) -> bool:
    """Return True when the time has come, False once the command is ended."""
    pause = at - time.monotonic()
    return not done.is_set() and not (pause > 0 and await passes(done, pause))


class _ReplayPace:
    """Computes when to fire each event, in seconds from the start."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first: float | None = None
        self._latest = 0.0

    def due(self, at: float) -> float:
        """Return the time for the next event, which was originally fired `at`."""
        self._first = at if self._first is None else self._first
        if self._speed:
            self._latest = max(self._latest, (at - self._first) / self._speed)  # clocks may go back
        return self._latest


async def _fire(bus: Connection, event: RecordedEvent, fired: int) -> None:
    try:
        await bus.client.fire_event(event.api, event.event, event.kwargs)
    except LightbusException as error:
        bus.output.note(f"{fired} events were fired before line {event.line} of the file; --skip continues after them.")
        raise error
