"""`lightbus dumpschema`: the schemas of APIs, to a file or a directory, for programs that call them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...exceptions import UnsupportedUse
from ..support.connection import Connection, on_bus
from ..support.options import ClientOptions, client_options

if TYPE_CHECKING:
    from ...service.schema import Schema

__all__ = ["dumpschema"]


@click.command()
@click.option("--bus", "-b", "module", metavar="MODULE", help="The bus module whose APIs are meant. [default: bus]")
@click.option("--out", "-o", metavar="PATH", type=click.Path(path_type=Path), help="A file for all, or a directory.")
@click.option("--remote", is_flag=True, help="The APIs on the bus instead of those of a module.")
@client_options
def dumpschema(options: ClientOptions, module: str | None, out: Path | None, remote: bool) -> None:
    """Write the schemas of a bus module's APIs, or of all that are on the bus.

    Into a directory goes a file for each API, into a file (or standard output) all of them. `lightbus run --schema` and
    `bus.schema.load_local()` read either.
    """
    if remote:
        on_bus(options, lambda bus: _dump(bus, out))
        return
    from ...creation import configure_logging
    from ..support.bus_module import load_bus
    from ..support.options import take_over

    configure_logging(options.log_level or "warning")
    take_over(service_name=None, process_name=None, config_file=options.config_file, log_level=None)
    bus, _ = load_bus(module)
    _save(bus.schema, out)


async def _dump(bus: Connection, out: Path | None) -> None:
    from ...service.schema import Schema

    found = Schema(human_readable=bus.client.config.bus.options.human_readable)
    for peer in await bus.look_around():
        for api in peer.announcement.apis or () if peer.is_live else ():
            if not api.internal and not found.knows(api.name):
                found.add_foreign(api.name, await bus.ask(peer, "schema", api=api.name))
    _save(found, out)


def _save(schema: Schema, out: Path | None) -> None:
    try:
        schema.save_local(out)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnsupportedUse(f"The schemas cannot be written to {out}: {error.strerror}. Name another --out.") from None
