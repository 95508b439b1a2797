"""`lightbus tail`: the events of the bus as they happen, and, with --since, those that are kept."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from ..config.features import Feature
from .connection import Connection, asked_to_end, on_bus, passes
from .options import ClientOptions, client_options
from .output import json_line

if TYPE_CHECKING:
    from ..message import EventMessage

__all__ = ["tail"]


@click.command()
@click.argument("pattern", required=False, default="*")
@click.option(
    "--since", metavar="WHEN", help='Begin with what is kept: "0" for all, an event\'s id, or a date and time.'
)
@click.option("--count", "-n", type=click.IntRange(1), help="End after so many events.")
@client_options
def tail(options: ClientOptions, pattern: str, since: str | None, count: int | None) -> None:
    """Show events as they happen: all, or those whose name matches, as `auth.*` does.

    It takes nothing away from anybody: it is in no consumer group, and acknowledges nothing. Ctrl-C ends it.
    """
    on_bus(options, lambda bus: _tail(bus, pattern, _moment(since), count))


async def _tail(bus: Connection, pattern: str, since: str | datetime | None, count: int | None) -> None:
    done = asked_to_end()
    left = count

    async def show(message: EventMessage, **_: Any) -> None:
        nonlocal left
        if done.is_set() or not fnmatchcase(message.canonical_name, pattern):
            return
        _show(bus, message)
        if left is not None:
            left -= 1
            if left == 0:
                done.set()

    client = bus.client
    client.set_features([Feature.EVENTS])
    options = None if since is None else {"since": since}
    apis = await _apis(bus)
    for api in apis:
        client.listen_for_event(api, "*", show, listener_name="tail", group=None, options=options)
    await client.start_worker()
    bus.output.note(f"Following the events of {', '.join(apis) or 'nobody yet'}; Ctrl-C ends it.")
    while not await passes(done, 1.0):
        for api in set(await _known_apis(bus)) - set(apis):  # somebody came who publishes another one
            apis.append(api)
            client.listen_for_event(api, "*", show, listener_name="tail", group=None, options=options)
    await client.stop_worker()


async def _apis(bus: Connection) -> list[str]:
    await bus.look_around()
    return await _known_apis(bus)


async def _known_apis(bus: Connection) -> list[str]:
    """Return the public APIs that have events."""
    return sorted({api for api, _ in bus.client.engine.snapshot.events if not api.startswith("internal.")})


def _show(bus: Connection, message: EventMessage) -> None:
    if bus.output.as_json:
        bus.output.record(
            {
                "id": message.id,
                "native_id": message.native_id,
                "api": message.api_name,
                "event": message.event_name,
                "version": message.version,
                "published_at": message.published_at,
                "publisher": message.publisher,
                "kwargs": message.kwargs,
            }
        )
        return
    at = datetime.fromtimestamp(message.published_at).strftime("%H:%M:%S.%f")[:-3]
    bus.output.line(
        (at, "dim"), "  ", (message.canonical_name, "bold"), f"  {json_line(message.kwargs)}",
        (f"  {message.publisher[:4]}", "dim"),
    )  # fmt: skip


def _moment(text: str | None) -> str | datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone() if text != "0" else text
    except ValueError:
        return text  # an id
