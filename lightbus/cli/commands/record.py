"""`lightbus record`: write events to a file, as they happen or as they are stored."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

import click

from ...exceptions import DeformError, UnsupportedUse
from ...message import EventMessage
from ..support.connection import Connection, on_bus, passes, stop_requested
from ..support.following import EventFollower
from ..support.moments import parse_since
from ..support.options import ClientOptions, client_options
from ..support.publishers import ask_publishers, code_of
from ..support.recording import heading, line_of

__all__ = ["record"]


@click.command()
@click.argument("pattern", required=False, default="*")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    required=True,
    help="The file to write; it must not exist yet.",
)
@click.option(
    "--since", metavar="WHEN", help='Begin with what is kept: "0" for all, an event\'s id, a date and time, or 10m.'
)
@click.option("--kept", is_flag=True, help="Record what is kept (since 0, or --since), and end.")
@click.option("--count", "-n", type=click.IntRange(1), metavar="N", help="End after so many events.")
@client_options
def record(options: ClientOptions, pattern: str, out: Path, since: str | None, kept: bool, count: int | None) -> None:
    """Write events to a file: all, or those whose name matches, as `auth.*` does. `lightbus replay` fires them again.

    It takes no events away from listeners. Ctrl-C ends it; events recorded until then are in the file. Exit code 1:
    events were left out that are nested too deeply for JSON. 3, with --kept: a peer does not answer, so that its events
    may be missing.
    """
    begin = parse_since("0" if kept and since is None else since)
    on_bus(options, lambda bus: _record(bus, pattern, out, begin, count, only_kept=kept))


async def _record(
    bus: Connection, pattern: str, out: Path, begin: str | datetime | None, count: int | None, *, only_kept: bool
) -> int:
    if begin is None:
        await bus.discover_all()
    else:
        await ask_publishers(bus, "journals")  # notes name those whose stored events will be missing
    with _open(out) as file:
        file.write(heading(bus.name))
        recorder = _Recorder(bus, file, count)
        follower = EventFollower(
            bus,
            recorder.write,
            is_wanted=lambda message: fnmatchcase(message.canonical_name, pattern),
            since=begin,
            name="record",
        )
        await recorder.run(follower, out, only_kept=only_kept)
    if recorder.left_out:
        return 1
    return code_of(bus) if only_kept else 0


def _open(out: Path) -> IO[str]:
    try:
        return out.open("x", encoding="utf-8")
    except FileExistsError:
        raise UnsupportedUse(f"{out} exists already. Name another --out, or remove it.") from None
    except OSError as error:
        raise UnsupportedUse(f"{out} cannot be written: {error.strerror}. Name another --out.") from None


class _Recorder:
    """Writes events to a file, and counts them, and those that JSON cannot hold (`left_out`)."""

    def __init__(self, bus: Connection, file: IO[str], wanted: int | None) -> None:
        self._bus = bus
        self._file = file
        self._wanted = wanted
        self.left_out = 0
        self._written = 0
        self._done = stop_requested()
        self._failure: OSError | None = None

    async def run(self, follower: EventFollower, out: Path, *, only_kept: bool) -> None:
        """Record until a signal, the wanted number, or the end of the stored events."""
        output = self._bus.output
        await follower.begin()
        try:
            output.note(f"Recording the events of {', '.join(follower.apis) or 'no API yet'}; Ctrl-C ends it.")
            with output.progress("Recorded", self._wanted) as advance:
                while not await passes(self._done, follower.pause):
                    follower.look()
                    advance(self._written, f"Recorded {self._written}")
                    self._save()
                    if only_kept and not follower.is_replaying:
                        break
        finally:
            await follower.end()
        self._save()
        if self._failure is not None:
            raise UnsupportedUse(
                f"{out} cannot be written to: {self._failure.strerror}. {self._written} events are in it."
            )
        if self.left_out:
            output.note(f"{self.left_out} events are nested too deeply for JSON: they are left out.")
        if output.as_json:
            output.record({"file": str(out), "events": self._written})
        else:
            output.line((str(self._written), "bold"), f" event{'' if self._written == 1 else 's'} recorded in {out}")

    def write(self, message: EventMessage) -> None:
        """Write an event, unless the wanted number is reached."""
        if self._done.is_set():
            return
        try:
            self._file.write(line_of(message))
        except OSError as error:  # an error of the file, not of a listener: end the command
            self._fail(error)
            return
        except DeformError:  # an error of the event, not of a listener: the others are recorded
            self.left_out += 1
            return
        self._written += 1
        if self._written == self._wanted:
            self._done.set()

    def _save(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failure = self._failure or error
        self._done.set()
