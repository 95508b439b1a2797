"""`lightbus dumpschema`: the schemas of APIs, to a file or a directory, for programs that call them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from ...exceptions import NotReachable, UnsupportedUse
from ...path import BusPath
from ...typing import JsonSchema
from ..support.connection import Connection, on_bus
from ..support.options import ClientOptions, client_options_beside_out

__all__ = ["dumpschema"]


@click.command()
@click.option("--bus", "-b", "module", metavar="MODULE", help="The bus module whose APIs are added. [default: bus]")
@click.option("--out", "-o", metavar="PATH", type=click.Path(path_type=Path), help="A file for all, or a directory.")
@click.option("--local", is_flag=True, help="Only the APIs of the bus module, without looking at the bus.")
@click.option("--remote", is_flag=True, help="Only the APIs on the bus, without a bus module.")
@client_options_beside_out
def dumpschema(options: ClientOptions, module: str | None, out: Path | None, local: bool, remote: bool) -> None:
    """Write the schemas of all APIs on the bus, and of the bus module that there is here.

    Into a directory goes a file for each API, into a file (or standard output) all of them. `lightbus run --schema` and
    `bus.schema.load_local()` read either.
    """
    if local and remote:
        raise UnsupportedUse("--local and --remote were both given. Without either both are written.")
    own = None if remote else _own_bus(options, module, needed=local)
    if own is not None and local:
        is_readable = own.client.config.bus.options.human_readable and not options.as_json
        _save(_schemas_of(own), out, human_readable=is_readable)
        return
    on_bus(options, lambda bus: _dump(bus, own, out))


def _own_bus(options: ClientOptions, module: str | None, *, needed: bool) -> BusPath | None:
    """Return the bus of the bus module; None if there is no such module and it is not `needed`."""
    from ...creation import configure_logging
    from ..support.bus_module import is_module_there, load_bus
    from ..support.options import apply_options

    if not needed and not is_module_there(module):
        return None
    configure_logging(options.log_level or "warning")
    apply_options(service_name=None, process_name=None, config_file=options.config_file, log_level=None)
    return load_bus(module)[0]


def _schemas_of(own: BusPath) -> dict[str, JsonSchema]:
    from ..schemas.gathering import schemas_of_module

    return schemas_of_module(own)


async def _dump(bus: Connection, own: BusPath | None, out: Path | None) -> None:
    from ..schemas.gathering import schemas_on_bus

    found = {} if own is None else _schemas_of(own)
    try:
        found.update(await schemas_on_bus(bus))
    except NotReachable:
        if not found:
            raise
        bus.output.note("No peer is on the bus: these are the schemas of the bus module alone (--local says so).")
    is_readable = bus.client.config.bus.options.human_readable and not bus.output.as_json
    _save(found, out, human_readable=is_readable)


def _save(schemas: Mapping[str, JsonSchema], out: Path | None, *, human_readable: bool) -> None:
    from ..schemas.gathering import save

    try:
        save(schemas, out, human_readable=human_readable)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnsupportedUse(f"The schemas cannot be written to {out}: {error.strerror}. Name another --out.") from None
