"""`lightbus lag`: how many events each group has not handled yet."""

from __future__ import annotations

from typing import Any

import click

from ..support.completing import complete_groups
from ..support.connection import Connection, on_bus
from ..support.lists import Listing, ListView, Row, list_options, show_list
from ..support.options import ClientOptions, client_options
from ..support.output import Cell, Column
from ..support.publishers import code_of, groups_on_bus, no_such_group, nothing_shown

__all__ = ["lag"]

COLUMNS = (
    Column(title="API"),
    Column(title="GROUP"),
    Column(title="PUBLISHER"),
    Column(title="MEMBERS", right=True, optional=1),
    Column(title="LAG", right=True),
)


@click.command()
@click.argument("group", required=False, shell_complete=complete_groups)
@list_options
@client_options
def lag(options: ClientOptions, group: str | None, view: ListView) -> None:
    """Show how many events each group (or one) has still to handle, by publisher.

    The exit code is 1 if a group without a member has a lag, which no process will handle. It is 3 if a peer does not
    answer, so that the list may be incomplete.
    """
    on_bus(options, lambda bus: show_list(bus, view, COLUMNS, lambda bus: _lag(bus, group)))


async def _lag(bus: Connection, name: str | None) -> Listing:
    every = await groups_on_bus(bus)
    found = [group for group in every if name in (None, group["name"])]
    if name is not None and not found:
        raise no_such_group(name, (group["name"] for group in every))
    return Listing(
        rows=[Row(fields=_fields(group), cells=_cells(group)) for group in found],
        empty=nothing_shown(bus, "No publisher knows a group."),
        code=_code(bus, found),
    )


def _code(bus: Connection, found: list[dict[str, Any]]) -> int:
    with_members = {(group["api"], group["name"]) for group in found if group["members"]}
    if any(group["lag"] and (group["api"], group["name"]) not in with_members for group in found):
        return 1
    return code_of(bus)


def _cells(group: dict[str, Any]) -> list[Cell]:
    return [
        group["api"],
        group["name"],
        f"{group['publisher']} {group['instance'][:4]}",
        str(len(group["members"])),
        (str(group["lag"]), "yellow" if group["lag"] else ""),
    ]


def _fields(group: dict[str, Any]) -> dict[str, Any]:
    return {
        "api": group["api"],
        "group": group["name"],
        "publisher": group["publisher"],
        "instance": group["instance"],
        "members": len(group["members"]),
        "lag": group["lag"],
    }
