"""`lightbus apis`: the APIs on the bus, and the services that serve them."""

from __future__ import annotations

from collections import Counter

import click

from ..support.catalogue import ServedApi, served_apis
from ..support.connection import Connection, on_bus
from ..support.lists import Listing, ListView, Row, list_options, show_list
from ..support.options import ClientOptions, client_options
from ..support.output import Cell, Column

__all__ = ["apis"]

COLUMNS = (
    Column(title="API"),
    Column(title="VERSION", right=True, optional=1),
    Column(title="PROCEDURES"),
    Column(title="EVENTS"),
    Column(title="SERVED BY"),
)


@click.command()
@click.option("--internal", is_flag=True, help="Show internal APIs, too.")
@list_options
@client_options
def apis(options: ClientOptions, internal: bool, view: ListView) -> None:
    """Show the APIs on the bus, and the services that serve them.

    `lightbus describe API` shows one in detail. Versions in yellow: its peers serve different versions.
    """
    on_bus(options, lambda bus: show_list(bus, view, COLUMNS, lambda bus: _list(bus, internal=internal)))


async def _list(bus: Connection, *, internal: bool) -> Listing:
    found = [api for api in served_apis(await bus.discover_all()) if internal or not api.is_internal]
    return Listing(rows=[Row(fields=api.fields(), cells=_row(api)) for api in found], empty="No peer serves an API.")


def _row(api: ServedApi) -> list[Cell]:
    services = Counter(peer.announcement.service for peer in api.peers)
    versions = ", ".join(map(str, api.versions))
    return [
        api.name,
        (f"{versions} (mixed)", "yellow") if api.is_mixed else versions,
        ", ".join(api.procedures) or "-",
        ", ".join(api.events) or "-",
        ", ".join(f"{service} x{count}" if count > 1 else service for service, count in sorted(services.items())),
    ]
