"""`lightbus groups`: the consumer groups for which events are stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import click

from ...exceptions import NotReachable
from ..support.completing import complete_apis, complete_groups
from ..support.connection import Connection, on_bus
from ..support.lists import Listing, ListView, Row, list_options, show_list
from ..support.local_journals import forget_here, groups_here
from ..support.options import ClientOptions, client_options
from ..support.output import Cell, Column, ago
from ..support.publishers import ask_publishers, code_of, groups_on_bus, no_such_group, nothing_shown

__all__ = ["groups"]

COLUMNS = (
    Column(title="API"),
    Column(title="GROUP"),
    Column(title="EVENTS", optional=3),
    Column(title="PUBLISHER", optional=1),
    Column(title="MEMBERS", right=True),
    Column(title="LAG", right=True),
    Column(title="DEAD", right=True, optional=2),
    Column(title="LOST", right=True, optional=2),
    Column(title="LAST SEEN"),
)


@click.group()
def groups() -> None:
    """Show the consumer groups that events are kept for, or forget one."""


@groups.command("list")
@click.argument("api", required=False, default="", shell_complete=complete_apis)
@list_options
@client_options
def list_groups(options: ClientOptions, api: str, view: ListView) -> None:
    """Show each group at each publisher, of one API or of all: its members and its lag.

    The exit code is 3 if a peer does not answer, so that the list may be incomplete.
    """
    on_bus(options, lambda bus: show_list(bus, view, COLUMNS, lambda bus: _list(bus, api)))


@groups.command()
@click.argument("group", shell_complete=complete_groups)
@click.option("--api", default="", shell_complete=complete_apis, help="Only of this API.")
@client_options
def remove(options: ClientOptions, group: str, api: str) -> None:
    """Forget a group at every publisher: no events are kept for it any more.

    Also in the journals of this host that no worker serves. A group whose processes still run is created again as soon
    as they join, and begins with the next events. The exit code is 3 if a peer does not answer, so that the group may
    not be forgotten everywhere.
    """
    on_bus(options, lambda bus: _remove(bus, group, api))


async def _list(bus: Connection, api: str) -> Listing:
    rows = [Row(fields=group, cells=_cells(group)) for group in await groups_on_bus(bus, api)]
    text = "No publisher knows a group" + (f" of an API '{api}'." if api else ".")
    return Listing(rows=rows, empty=nothing_shown(bus, text), code=code_of(bus))


def _cells(group: dict[str, Any]) -> list[Cell]:
    return [
        group["api"],
        (f"{group['name']} (mixed)", "yellow") if group["mixed"] else group["name"],
        ", ".join(group["events"]),
        f"{group['publisher']} {group['instance'][:4]}",
        str(len(group["members"])),
        (str(group["lag"]), "yellow" if group["lag"] else ""),
        (str(group["dead"]), "red" if group["dead"] else ""),
        (str(group["lost"]), "red" if group["lost"] else ""),
        "now" if group["members"] else ago(group["last_seen"], group["clock"]),
    ]


async def _remove(bus: Connection, name: str, api: str) -> int:
    """Remove a group from the publishers, and from the journals of this host that no worker serves."""
    there, empty_bus_error = await _groups_there(bus)
    here = await asyncio.to_thread(groups_here, bus)
    known = {*((group["api"], group["name"]) for group in there), *((group.api, group.name) for group in here)}
    if empty_bus_error is not None and not known:
        raise empty_bus_error
    apis = {each for each, group in known if group == name and api in ("", each)}
    if not apis:
        raise no_such_group(name, (group for _, group in known))
    asked = sorted(apis) if empty_bus_error is None else []
    answers = await asyncio.gather(*(_forgotten_by(bus, each, name) for each in asked))
    publishers = Counter(dict(zip(asked, answers, strict=True)))
    journals, held = await asyncio.to_thread(forget_here, bus, name, apis)
    for each in sorted(apis):
        _show_removed(bus, each, name, publishers[each], journals[each])
    if empty_bus_error is None or not held:
        return code_of(bus)
    bus.output.note(
        f"Not forgotten in {', '.join(map(str, held))}: a process that does not answer has it in use. "
        "End that, and run the command again."
    )
    return NotReachable.exit_code


async def _groups_there(bus: Connection) -> tuple[list[dict[str, Any]], NotReachable | None]:
    """Return the groups that publishers know, and the error if there is no peer."""
    try:
        return await groups_on_bus(bus), None
    except NotReachable as error:
        return [], error


async def _forgotten_by(bus: Connection, api: str, name: str) -> int:
    return sum(bool(answer) for _, answer in await ask_publishers(bus, "remove_group", api=api, group=name))


def _show_removed(bus: Connection, api: str, name: str, publishers: int, journals: int) -> None:
    if bus.output.as_json:
        bus.output.record({"api": api, "group": name, "publishers": publishers, "journals": journals})
        return
    where = [f"by {publishers} publishers"] if publishers else []
    where += [f"in {journals} journals of this host that no worker serves"] if journals else []
    bus.output.line(f"{name} of {api} is {'forgotten ' + ' and '.join(where) if where else 'not forgotten'}")
