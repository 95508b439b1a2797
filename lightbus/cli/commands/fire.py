"""`lightbus fire`: fire an event from the command line."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ..support.arguments import parse_arguments
from ..support.catalogue import split_target
from ..support.completing import complete_events
from ..support.completing_arguments import complete_fire_arguments
from ..support.connection import Connection, on_bus
from ..support.options import ClientOptions, client_options
from .call import noting_timeouts, schema_of

__all__ = ["fire"]


@click.command()
@click.argument("name", metavar="API.EVENT", shell_complete=complete_events)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=complete_fire_arguments)
@click.option("--timeout", type=click.FloatRange(0.0, min_open=True), metavar="SECONDS",
              help="Seconds within which a publisher has to accept it.")  # fmt: skip
@client_options
def fire(options: ClientOptions, name: str, arguments: tuple[str, ...], timeout: float | None) -> None:
    """Fire an event, and show its publisher.

    lightbus fire auth.user_registered user=sally email=sally@example.com

    Arguments are written as for `lightbus call`, and checked against the schema that the peers advertise.
    """
    on_bus(options, lambda bus: _fire(bus, name, arguments, timeout))


async def _fire(bus: Connection, target: str, words: Sequence[str], timeout: float | None) -> None:
    api, event = split_target(target)
    kwargs = parse_arguments(words, await schema_of(bus, "events", api, event, await bus.find(api)))
    with noting_timeouts(bus):
        message = await bus.client.fire_event(api, event, kwargs, {} if timeout is None else {"timeout": timeout})
    publisher = bus.client.engine.snapshot.peers.get(message.publisher)
    if bus.output.as_json:
        fields = {"api": api, "event": event, "id": message.id, "native_id": message.native_id}
        bus.output.record({**fields, "publisher": message.publisher, "published_at": message.published_at})
    elif not message.publisher:
        bus.output.line((f"{api}.{event}", "bold"), f" waits on this host as {message.id}: no publisher accepts it now")
    else:
        who = message.publisher if publisher is None else str(publisher.announcement)
        bus.output.line((f"{api}.{event}", "bold"), f" is accepted by {who} as {message.native_id}")
