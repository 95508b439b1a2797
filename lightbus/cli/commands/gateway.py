"""`lightbus gateway`: the bus over HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import click

from ...adapters.host.descriptors import raise_descriptor_limit
from ...exceptions import InvalidConfiguration
from ...gateway.access import Rules
from ...gateway.clients import read_clients
from ...gateway.options import GatewayOptions, check_origin, clients_of_this_start
from ...web.hosts import check_host_name, url_of
from ..support.catalogue import served_apis
from ..support.connection import Connection, on_bus, stop_requested
from ..support.options import ClientOptions, client_options

__all__ = ["gateway"]

logger = logging.getLogger("lightbus.gateway")

SERVICE = "lightbus-gateway"
"""The service name of the gateway on the bus."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8421, show_default=True, help="0: any that is free.")
@click.option("--host", "address", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--allow", "allowed", multiple=True, metavar="PATTERN", help="Open this: auth.check_password, shop.*, listen:shop.*"
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The clients: a line each, with a name and a token. [default: one client, with a new token]",
)
@click.option("--allow-host", "names", multiple=True, metavar="NAME", help="Answer to this host name, too.")
@click.option(
    "--allow-origin", "origins", multiple=True, metavar="ORIGIN", help="Let pages of this site send requests."
)
@click.option(
    "--rate",
    type=click.FloatRange(0.0, 1e6),
    default=100.0,
    show_default=True,
    metavar="N",
    help="Requests a second that each client may send; 0: any number.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1, 1024**3),
    default=1024**2,
    show_default=True,
    metavar="BYTES",
    help="The largest body of a request.",
)
@client_options
def gateway(
    options: ClientOptions,
    port: int,
    address: str,
    allowed: tuple[str, ...],
    token_file: Path | None,
    names: tuple[str, ...],
    origins: tuple[str, ...],
    rate: float,
    max_body: int,
) -> None:
    """Offer parts of the bus over HTTP: procedures, events, and streams of events. Ctrl-C ends it.

    lightbus gateway --allow auth.check_password --allow 'listen:auth.*'

    It needs a package: pip install 'lightbus[dashboard]'. Only what --allow names is open, and every request needs a
    token: docs/gateway.md describes requests and answers.
    """
    try:
        from ...web.serving import bound_socket
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            f"The gateway needs the package {error.name}, which is not installed: pip install 'lightbus[dashboard]'"
        ) from error
    if not allowed:
        raise InvalidConfiguration(
            "No part of the bus would be open: name the parts, for example --allow auth.check_password"
        )
    given = GatewayOptions(
        rules=Rules.read(allowed),
        clients=clients_of_this_start(address) if token_file is None else read_clients(token_file),
        address=address,
        port=port,
        names=tuple(map(check_host_name, names)),
        origins=tuple(map(check_origin, origins)),
        rate=rate,
        max_body=max_body,
    )
    raise_descriptor_limit()  # each connection takes one, and this process runs nothing else
    with bound_socket(address, port, "The gateway") as listening:
        on_bus(
            options,
            lambda bus: _serve(bus, given, listening, is_new=token_file is None),
            service=SERVICE,
        )


async def _serve(bus: Connection, given: GatewayOptions, listening: socket.socket, *, is_new: bool) -> None:
    from ...gateway.app import Gateway
    from ...web.serving import serve

    done = stop_requested()
    url = url_of(given.address, listening.getsockname()[1])
    looking = asyncio.create_task(_discover_all(bus, given.rules))
    token = given.clients.only.token if is_new else ""
    if bus.output.as_json:
        bus.output.record({"url": url, **({"token": token} if is_new else {})})
    else:
        bus.output.line(f"Parts of the bus '{bus.name}' are open at ", (url, "bold"), ". Ctrl-C ends it.")
        if is_new:
            bus.output.line(f"Clients need the token {token}")
    bus.output.as_json = True  # no notes about silent peers: clients get errors
    served = Gateway(bus, given)
    await serve(served, listening, done)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


async def _discover_all(bus: Connection, rules: Rules) -> None:
    """Discover all peers, and log which rules match nothing: a name may be misspelt, or its workers start later."""
    await bus.settle()
    served = served_apis(bus.known())
    for text in rules.without_effect({api.name: [*api.procedures, *api.events] for api in served}):
        logger.warning("%s", text)
