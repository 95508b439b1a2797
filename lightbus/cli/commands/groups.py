"""`lightbus groups`: the consumer groups that events are kept for."""

from __future__ import annotations

import click

from ..support.connection import Connection, on_bus
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
@click.argument("api", required=False, default="")
@client_options
def list_groups(options: ClientOptions, api: str) -> None:
    """Show each group at each publisher, of one API or of all: who is in it, how far it has come.

    The exit code is 3 where somebody does not answer, so that what is shown may not be all.
    """
    on_bus(options, lambda bus: _list(bus, api))


@groups.command()
@click.argument("group")
@click.option("--api", default="", help="Only of this API.")
@client_options
def remove(options: ClientOptions, group: str, api: str) -> None:
    """Forget a group at every publisher: nothing is kept for it any more.

    A group whose processes still run is created anew as soon as they join, and begins with what comes then. The exit
    code is 3 where somebody does not answer, so that it may not be forgotten everywhere.
    """
    on_bus(options, lambda bus: _remove(bus, group, api))


async def _list(bus: Connection, api: str) -> int:
    found = await groups_on_bus(bus, api)
    if bus.output.as_json:
        for group in found:
            bus.output.record(group)
        return code_of(bus)
    rows: list[list[Cell]] = [
        [
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
        for group in found
    ]
    if rows:
        bus.output.table(COLUMNS, rows)
    else:
        text = "No publisher knows a group" + (f" of an API '{api}'." if api else ".")
        bus.output.note(nothing_shown(bus, text))
    return code_of(bus)


async def _remove(bus: Connection, name: str, api: str) -> int:
    found = [group for group in await groups_on_bus(bus, api) if group["name"] == name]
    if not found:
        raise no_such_group(name, await groups_on_bus(bus))
    for each in sorted({group["api"] for group in found}):
        answers = await ask_publishers(bus, "remove_group", api=each, group=name)
        count = sum(bool(answer) for _, answer in answers)
        if bus.output.as_json:
            bus.output.record({"api": each, "group": name, "publishers": count})
        else:
            bus.output.line(f"{name} of {each} is forgotten by {count} publishers")
    return code_of(bus)
