"""`lightbus events`: move the stored events of an API from the journals to a JetStream, or back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click

from ...adapters.host.directories import found_in
from ...adapters.sqlite.group_table import KnownGroup
from ...adapters.sqlite.journal import Journal
from ...adapters.sqlite.journal_directory import apis_in
from ...adapters.sqlite.journal_files import journals_in
from ...deadline import Deadline
from ...engine.event_backends import movable_backend
from ...exceptions import EventBackendError, InvalidConfiguration, NotReachable
from ...ports.moving import BackendMove, MovableBackend
from ..support.connection import Connection, on_bus
from ..support.local_journals import directories, journal_directory, place
from ..support.options import ClientOptions, client_options

__all__ = ["events"]

JETSTREAM = "jetstream"

AGAIN = "Run the command again then: it continues where it was."


@click.group()
def events() -> None:
    """Move the stored events of an API."""


@events.command()
@click.argument("api")
@click.option("--to", type=click.Choice([JETSTREAM, "journal"]), required=True, help="Where they go.")
@click.option("--service", metavar="NAME", help="Whose journal they go to. [default: the service that had them]")
@client_options
def migrate(options: ClientOptions, api: str, to: str, service: str | None) -> None:
    """Move the events, groups and dead letters of an API to a JetStream, or to a journal of this host.

    First stop the workers of the API. Run this on each host that has published it. Then start the workers with the
    new setting apis.<name>.events.backend. An interrupted run can be repeated: it continues where it stopped, without
    duplicates. The exit code is 3 if the events are still in use.
    """
    on_bus(options, lambda bus: _migrate(bus, api, to, service))


async def _migrate(bus: Connection, api: str, to: str, service: str | None) -> int:
    engine = bus.client.engine
    backend = movable_backend(bus.client.config, JETSTREAM, api, engine.identity)
    try:
        await backend.start()
        if to == JETSTREAM:
            await _to_backend(bus, api, backend.move(api))
        else:
            await _to_journal(bus, api, backend, service)
    except EventBackendError as error:
        raise EventBackendError(f"{error} {AGAIN}") from error
    finally:
        await backend.stop()
    return 0


async def _to_backend(bus: Connection, api: str, target: BackendMove) -> None:
    from ...events.backends.move_to_backend import move_to_backend

    with ExitStack() as opened:
        journals: list[Journal] = []
        held: list[Path] = []
        groups: dict[str, KnownGroup] = {}
        for directory in directories(bus):
            free, others = directory.open_those_of(api)
            for journal in free:
                opened.callback(journal.close)
            journals, held = [*journals, *free], [*held, *others]
            groups.update({group.name: group for group in directory.siblings_groups() if group.api == api})
        if held:
            raise _in_use(api, held)
        if not journals:
            bus.output.note(f"No journal on this host has events of {api} (in {place(bus)}).")
        total = sum(journal.size[0] for journal in journals)
        with bus.output.progress(f"Moving {api}", total) as advance:
            moved = await move_to_backend(journals, groups, target, api, _counting(advance))
    _say(bus, api, JETSTREAM, moved, len(groups))


async def _to_journal(bus: Connection, api: str, backend: MovableBackend, service: str | None) -> None:
    from ...events.backends.move_to_journal import MoveToJournal

    source = backend.move(api)
    noted = await source.resume("journal")
    await _refuse_where_used(bus, api, source)
    with ExitStack() as opened:
        journal = _target(bus, api, service, opened)
        with bus.output.progress(f"Moving {api}", await backend.count(api)) as advance:
            move = MoveToJournal(source, backend.store(api), journal, api, _counting(advance))
            if noted.get("step") == "clear":  # an earlier run moved everything, and did not finish deleting
                await move.clear(int(noted["through"]))
            groups = len(await source.groups())
            await move.run()
    _say(bus, api, str(journal.path), move.moved, groups)


async def _refuse_where_used(bus: Connection, api: str, source: BackendMove) -> None:
    """Raise NotReachable if a worker still uses the events."""
    engine = bus.client.engine
    await engine.questions.discover_all(Deadline.after(bus.options.wait))
    publishing = [str(peer.announcement) for peer in engine.snapshot.by_api.get(api, ()) if peer.is_live]
    if publishing:
        raise NotReachable(f"{', '.join(publishing)} publishes {api}. Stop it before its events are moved. {AGAIN}")
    if members := await source.members():
        raise NotReachable(
            f"Processes listen to {api} at the JetStream (instances {', '.join(members)}). Stop them before its events "
            f"are moved. {AGAIN}"
        )


def _target(bus: Connection, api: str, service: str | None, opened: ExitStack) -> Journal:
    """Return the journal to move to, which must not be in use: that of an earlier attempt, or a new one."""
    root = place(bus)
    if service is None:
        files = [file for service in found_in(root, "*/") for file in journals_in(service)]
        known = sorted({file.parent.name for file in files if api in apis_in(file, even_empty=True)})
        if len(known) != 1:
            there = f"Those of {', '.join(known)} had" if known else "None has had"
            raise InvalidConfiguration(
                f"It is not clear whose journal the events of {api} are to go to. {there} events of it in {root}. "
                "Say so: --service NAME, as the service that publishes the API is called"
            )
        service = known[0]
    directory = journal_directory(bus, root / service)
    journals, held = directory.open_those_of(api)
    for journal in journals:
        opened.callback(journal.close)
    if held:
        raise _in_use(api, held)
    if not journals:
        journals = [directory.open_own()]
        opened.callback(journals[0].close)
    return journals[0]


def _in_use(api: str, files: list[Path]) -> NotReachable:
    return NotReachable(
        f"Running processes have journals with events of {api} in use: {', '.join(map(str, files))}. A worker also "
        "takes over what other services of its host have left. Stop the workers of this bus on this host, lightbus "
        f"peers shows them. {AGAIN}"
    )


def _counting(advance: Callable[[int, str], None]) -> Callable[[int], None]:
    done: Counter[str] = Counter()

    def count(events: int) -> None:
        done["events"] += events
        advance(done["events"], "")

    return count


def _say(bus: Connection, api: str, where: str, moved: Counter[str], groups: int) -> None:
    if bus.output.as_json:
        counts = {name: moved[name] for name in ("events", "owed", "dead")}
        bus.output.record({"api": api, "to": where, **counts, "groups": groups})
        return
    owed = f", {moved['owed']} of them still to be delivered" if moved["owed"] else ""
    bus.output.line((f"{moved['events']} events of {api}", "bold"), f" are moved to {where}{owed}.")
    bus.output.line(f"{groups} groups keep their positions; {moved['dead']} dead letters are moved.")
