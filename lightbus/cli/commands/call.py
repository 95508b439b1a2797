"""`lightbus call`: call a procedure from the command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from ...core.peers import Peer
from ...exceptions import LightbusException, LightbusTimeout, NotReachable, UnknownProcedure
from ...phrases import clean
from ...typing import JsonSchema, Kwargs
from ...wire.plain import json_form
from ..support.arguments import parse_arguments
from ..support.catalogue import no_api, split_target
from ..support.completing import complete_peers, complete_procedures
from ..support.completing_arguments import complete_call_arguments
from ..support.connection import Connection, first_answer, on_bus
from ..support.options import ClientOptions, client_options

__all__ = ["call", "noting_timeouts", "schema_of"]


@click.command()
@click.argument("name", metavar="API.PROCEDURE", shell_complete=complete_procedures)
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...", shell_complete=complete_call_arguments)
@click.option("--timeout", type=click.FloatRange(0.0, min_open=True), metavar="SECONDS",
              help="Seconds within which to answer.")  # fmt: skip
@click.option("--peer", metavar="PEER", shell_complete=complete_peers, help="Call this peer: service, process or id.")
@click.option("--all", "everybody", is_flag=True, help="Call every peer that serves the API.")
@client_options
def call(
    options: ClientOptions,
    name: str,
    arguments: tuple[str, ...],
    timeout: float | None,
    peer: str | None,
    everybody: bool,
) -> None:
    """Call a procedure, and show its result.

    lightbus call auth.check_password user=admin password=secret

    A value is JSON where it parses, else text; NAME=@FILE and NAME=- take it from a file or standard input. Alone,
    @FILE, - or a JSON object gives all arguments. They are checked against the schema that the peers advertise.
    """
    if peer is not None and everybody:
        raise click.UsageError("--peer and --all exclude each other: give one of them.")
    on_bus(options, lambda bus: _call(bus, name, arguments, timeout, peer, everybody=everybody))


async def _call(
    bus: Connection, target: str, words: Sequence[str], timeout: float | None, name: str | None, *, everybody: bool
) -> int:
    api, procedure = split_target(target)
    serving = await bus.find(api)
    if everybody or name is not None:
        serving = [peer for peer in await bus.discover_all() if peer.is_up and peer.advertises(api)]
    kwargs = parse_arguments(words, await schema_of(bus, "rpcs", api, procedure, serving))
    if everybody:
        return await _call_all(bus, api, procedure, kwargs, timeout, serving)
    chosen = None if name is None else next(iter(await bus.named(name, among=serving)))
    fields = await _ask(bus, api, procedure, kwargs, timeout, chosen)
    _show(bus, fields)
    return 0


async def _call_all(
    bus: Connection, api: str, procedure: str, kwargs: Kwargs, timeout: float | None, peers: Sequence[Peer]
) -> int:
    """Call each peer; show its result or error, and return the worst exit code."""

    async def ask(peer: Peer) -> int:
        try:
            fields, code = await _ask(bus, api, procedure, kwargs, timeout, peer), 0
        except LightbusException as error:
            fields = {**_named(api, procedure, peer), "error": error.code, "message": str(error)}
            code = error.exit_code
        _show(bus, fields, with_peer=True)
        return code

    return max(await asyncio.gather(*map(ask, peers)))


async def _ask(
    bus: Connection, api: str, procedure: str, kwargs: Kwargs, timeout: float | None, peer: Peer | None
) -> dict[str, Any]:
    given = {"timeout": timeout, "peer": None if peer is None else peer.instance}
    options = {key: value for key, value in given.items() if value is not None}
    before = time.perf_counter()
    with noting_timeouts(bus):
        result = await bus.client.call_rpc_remote(api, procedure, kwargs, options)
    seconds = time.perf_counter() - before
    return {**_named(api, procedure, peer), "result": result, "seconds": seconds}


@contextlib.contextmanager
def noting_timeouts(bus: Connection) -> Iterator[None]:
    """Write a note about --timeout if the time of the body is over: the error is about settings of programs."""
    try:
        yield
    except LightbusTimeout as error:
        if not isinstance(error, NotReachable):
            bus.output.note("`--timeout SECONDS` allows it more time.")
        raise


def _named(api: str, procedure: str, peer: Peer | None) -> dict[str, Any]:
    who = {} if peer is None else {"service": peer.announcement.service, "process": peer.announcement.process}
    return {"api": api, "procedure": procedure, **who, **({} if peer is None else {"instance": peer.instance})}


def _show(bus: Connection, fields: dict[str, Any], *, with_peer: bool = False) -> None:
    if bus.output.as_json:
        # Converted here, so that a result without a JSON form is an error: other records say so in its place.
        bus.output.record({name: json_form(each, finite=True) for name, each in fields.items()})
        return
    if with_peer:
        bus.output.line((f"{fields['service']} {fields['process']}: ", "bold"), *([] if "result" in fields else ["-"]))
    if "result" in fields:
        for line in _spelled(fields["result"]).splitlines() or [""]:
            sys.stdout.write(clean(line) + "\n")
    else:
        click.echo(f"Error: {fields['message']}", err=True)


def _spelled(result: Any) -> str:
    """Return a result as text: a string unchanged, any other value as JSON."""
    return result if isinstance(result, str) else json.dumps(json_form(result), indent=2, ensure_ascii=False)


async def schema_of(bus: Connection, kind: str, api: str, member: str, serving: Sequence[Peer]) -> JsonSchema:
    """
    Return the schema of a member's arguments, fetched from a peer; the client validates by it from now on.

    `kind` is "rpcs" or "events". Raises UnknownApi without a peer, UnknownProcedure if the member is of the other kind.
    """
    if not serving:  # those that were found have just ended
        raise no_api(api, bus.client.engine.snapshot.api_names())
    schema = await first_answer(serving, lambda peer: bus.ask(peer, "schema", api=api))
    if member in schema[kind]:
        bus.client.schema.add_foreign(api, schema)
        parameters: JsonSchema = schema[kind][member]["parameters"]
        return parameters
    other, remedy = ("events", "an event: use `lightbus fire`")
    if kind == "events":
        other, remedy = ("rpcs", "a procedure: use `lightbus call`")
    if member in schema[other]:
        raise UnknownProcedure(f"{api}.{member} is {remedy}.")
    return {}  # another peer may have the member (mixed versions); if none has, the call fails with a better error
