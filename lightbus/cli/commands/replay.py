"""`lightbus replay`: events of a file, fired again at the pace at which they were fired, or at another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import click

from ...exceptions import LightbusException, UnsupportedUse
from ..support.connection import Connection, asked_to_end, on_bus, passes
from ..support.options import ClientOptions, client_options
from ..support.recording import RecordedEvent, read_recording

__all__ = ["replay"]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("pattern", required=False, default="*")
@click.option("--speed", type=click.FloatRange(0.0), default=1.0, show_default=True, metavar="X",
              help="So many times as fast as they were fired; 0 for without a pause.")  # fmt: skip
@click.option(
    "--skip", type=click.IntRange(0), default=0, metavar="N", help="Leave out the first N events of the file."
)
@click.option("--again", is_flag=True, help="Fire them also on the bus that they were recorded on.")
@client_options
def replay(options: ClientOptions, file: Path, pattern: str, speed: float, skip: int, again: bool) -> None:
    """Fire the events that `lightbus record` wrote: all, or those whose name matches, as `auth.*` does.

    lightbus replay --bus-name test events.jsonl --speed 10

    They are new events, with ids and times of their own, and listeners handle them. So on the bus that they are from
    --again has to be said. An API that nobody serves there is an error before anything is fired.
    """
    recorded_on, events = read_recording(file)
    wanted = [each for each in list(events)[skip:] if fnmatchcase(each.name, pattern)]
    on_bus(options, lambda bus: _replay(bus, wanted, recorded_on, speed=speed, again=again))


async def _replay(
    bus: Connection, events: list[RecordedEvent], recorded_on: str, *, speed: float, again: bool
) -> int | None:
    if bus.name == recorded_on and not again:
        raise UnsupportedUse(
            f"These events are from the bus '{bus.name}' itself, whose listeners would handle them a second time. Name "
            "another bus (--bus-name test), or say that it is meant: --again."
        )
    for api in sorted({each.api for each in events}):
        await bus.find(api)
    done = asked_to_end()
    began = time.monotonic()
    fired = 0
    with bus.output.progress("Fired", len(events)) as advance:
        for event, due in zip(events, _due(events, speed), strict=True):
            if not await _is_time(done, began + due):
                break
            await _fire(bus, event, fired)
            fired += 1
            advance(fired, event.name)
    seconds = time.monotonic() - began
    if bus.output.as_json:
        bus.output.record({"fired": fired, "of": len(events), "seconds": seconds})
    else:
        bus.output.line((f"{fired} of {len(events)}", "bold"), f" events fired in {seconds:.1f} s")
    return None


async def _is_time(done: asyncio.Event, at: float) -> bool:
    """Return true when it is time, false once somebody ends it."""
    pause = at - time.monotonic()
    return not done.is_set() and not (pause > 0 and await passes(done, pause))


def _due(events: Iterable[RecordedEvent], speed: float) -> Iterable[float]:
    """Yield for each event the seconds from the beginning at which it is to be fired."""
    first: float | None = None
    latest = 0.0
    for event in events:
        first = event.published_at if first is None else first
        latest = max(latest, (event.published_at - first) / speed) if speed else 0.0  # clocks go back, too
        yield latest


async def _fire(bus: Connection, event: RecordedEvent, fired: int) -> None:
    try:
        await bus.client.fire_event(event.api, event.event, event.kwargs)
    except LightbusException as error:
        bus.output.note(f"{fired} events were fired before line {event.line} of the file; --skip goes on behind them.")
        raise error
