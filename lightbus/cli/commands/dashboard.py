"""`lightbus dashboard`: the bus in a browser."""

from __future__ import annotations

import asyncio
import socket
import threading
import webbrowser
from dataclasses import replace
from pathlib import Path

import click

from ...adapters.host.descriptors import raise_descriptor_limit
from ...dashboard.options import DashboardOptions
from ...exceptions import InvalidConfiguration
from ...web.hosts import check_host_name
from ...web.tokens import read_token
from ..support.connection import Connection, on_bus, stop_requested
from ..support.options import ClientOptions, client_options
from ..support.output import Output

__all__ = ["dashboard"]


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8420, show_default=True, help="0: any that is free.")
@click.option("--host", "address", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--allow-actions", is_flag=True, help="Let pages call, fire, retry and drop. [default: read-only]")
@click.option("--allow-host", "names", multiple=True, metavar="NAME", help="Answer to this host name, too.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file with the token. [default: a new token]",
)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser.")
@client_options
def dashboard(
    options: ClientOptions,
    port: int,
    address: str,
    allow_actions: bool,
    names: tuple[str, ...],
    token_file: Path | None,
    opens: bool,
) -> None:
    """Show the bus in a browser: the peers, their load, and problems. Ctrl-C ends it.

    It needs a package: pip install 'lightbus[dashboard]'. On 127.0.0.1 your own browser needs no token; all other
    clients, and all clients with another --host, must give the token.
    """
    try:
        from ...web.serving import bound_socket
    except ModuleNotFoundError as error:
        raise InvalidConfiguration(
            f"The dashboard needs the package {error.name}, which is not installed: pip install 'lightbus[dashboard]'"
        ) from error
    given = DashboardOptions(
        address=address, port=port, actions=allow_actions, names=tuple(map(check_host_name, names))
    )
    if token_file is not None:
        given = replace(given, token=read_token(token_file))
    raise_descriptor_limit()  # each connection takes one, and this process runs nothing else
    with bound_socket(given.address, given.port, "The dashboard") as listening:
        on_bus(options, lambda bus: _serve(bus, given, listening, opens=opens))


async def _serve(bus: Connection, given: DashboardOptions, listening: socket.socket, *, opens: bool) -> None:
    from ...dashboard.app import Dashboard
    from ...web.serving import serve

    done = stop_requested()
    url = given.url(listening.getsockname()[1])
    looking = asyncio.create_task(bus.settle())
    if bus.output.as_json:
        bus.output.record({"url": url, "token": given.token})
    else:
        _show_address(bus, given, url)
    shown = Dashboard(bus, given)
    if opens:
        # In a thread: some browsers run in the terminal, or are started by a program that waits for them.
        threading.Thread(target=_open, args=(Output(as_json=bus.output.as_json), url), daemon=True).start()
    bus.output.as_json = True  # no notes about silent peers: they are on the page
    await serve(shown, listening, done)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


def _open(output: Output, url: str) -> None:
    if not webbrowser.open(url):
        output.note(f"There is no browser here that could be started: open {url} yourself.")


def _show_address(bus: Connection, given: DashboardOptions, url: str) -> None:
    does = "pages may call, fire, retry and drop" if given.actions else "read-only; --allow-actions permits actions"
    bus.output.line(f"The bus '{bus.name}' is at ", (url, "bold"), f"  ({does}). Ctrl-C ends it.")
    if given.trusts_own_user:
        bus.output.line(f"Your own browser needs no token; other users of this host need {given.token}")
    else:
        bus.output.line(f"Browsers need the token {given.token}")
    if not given.is_local:
        bus.output.line(
            ("The token is sent unencrypted: use it where no one can eavesdrop, or behind a proxy with TLS.", "yellow")
        )
