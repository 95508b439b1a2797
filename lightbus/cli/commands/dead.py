"""`lightbus dead`: dead letters, the events that a group failed to handle in all allowed deliveries."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import click

from ...core.peers import Peer
from ...exceptions import LightbusException, NotReachable
from ..support.completing import complete_groups
from ..support.connection import Connection, on_bus
from ..support.lists import Listing, ListView, Row, list_options, show_list
from ..support.options import ClientOptions, client_options
from ..support.output import Cell, Column, ago, json_line
from ..support.publishers import ask_each, ask_publishers, code_of, groups_on_bus, no_such_group, nothing_shown

__all__ = ["dead"]

AT_A_TIME = 200
"""Dead letters per request to a publisher."""

MAX_DEAD = 1_000_000
"""The most dead letters of one publisher that are read."""

MAX_BEGINNINGS = 10
"""How often reading starts over: another user who drops dead letters meanwhile will be done at some time."""

NONE = "There are no dead letters."

DeadLetterPage: TypeAlias = list[dict[str, Any]]

COLUMNS = (
    Column(title="NATIVE ID"),
    Column(title="EVENT"),
    Column(title="GROUP"),
    Column(title="DELIVERIES", right=True, optional=1),
    Column(title="DIED"),
    Column(title="ERROR", optional=2),
)


@click.group()
def dead() -> None:
    """Show the dead letters, deliver them to their group again, or drop them."""


@dead.command("list")
@click.argument("group", required=False, default="", shell_complete=complete_groups)
@list_options
@client_options
def list_dead(options: ClientOptions, group: str, view: ListView) -> None:
    """List the dead letters of one group, or of all.

    The exit code is 3 if a peer does not answer, so that the list may be incomplete.
    """
    on_bus(options, lambda bus: show_list(bus, view, COLUMNS, lambda bus: _list(bus, group)))


def _letter_command(name: str, what: str) -> Callable[[Callable[[Connection, str, str], Any]], click.Command]:
    """Return a decorator that makes a subcommand for one dead letter, or all, of a group."""

    def make(function: Callable[[Connection, str, str], Any]) -> click.Command:
        @dead.command(name, help=what)
        @click.argument("native_id")
        @click.option("--group", default="", shell_complete=complete_groups, help="Only for this group.")
        @client_options
        def command(options: ClientOptions, native_id: str, group: str) -> None:
            on_bus(options, lambda bus: function(bus, native_id, group))

        return command

    return make


@_letter_command("show", "Show one event with its arguments and the error, or `all`.")
async def show(bus: Connection, native_id: str, group: str) -> int:
    """Show all fields of the dead letters."""
    for _, each in await _chosen(bus, native_id, group):
        if bus.output.as_json:
            bus.output.record(each)
            continue
        bus.output.line((f"{each['api']}.{each['event']}", "bold"), f"  {each['native_id']}  id {each['id']}")
        bus.output.line(f"  for {each['group']}, after {each['deliveries']} deliveries: ", (each["error"], "red"))
        bus.output.line(f"  {json_line(each['kwargs'])}")
    return code_of(bus)


@_letter_command(
    "retry",
    "Deliver one dead letter, or `all`, to its group again. It is stored as a new event for that group alone.",
)
async def retry(bus: Connection, native_id: str, group: str) -> int:
    """Deliver the dead letters again."""
    otherwise = f"is gone, or stays: {group or 'its group'} was removed, or listens to other events now"
    return await _do(bus, "retry_dead_events", "is delivered again to", native_id, group, otherwise)


@_letter_command("drop", "Delete one dead letter, or `all`.")
async def drop(bus: Connection, native_id: str, group: str) -> int:
    """Drop the dead letters."""
    return await _do(bus, "drop_dead_events", "is dropped for", native_id, group)


async def _list(bus: Connection, group: str) -> Listing:
    found = [each for _, each in await _all(bus, group)]
    now = time.time()
    rows = [Row(fields=each, cells=_cells(each, now)) for each in found]
    return Listing(rows=rows, empty=nothing_shown(bus, NONE), code=code_of(bus))


def _cells(dead: dict[str, Any], now: float) -> list[Cell]:
    return [
        dead["native_id"],
        f"{dead['api']}.{dead['event']}",
        dead["group"],
        str(dead["deliveries"]),
        ago(dead["died_at"], now),
        (dead["error"], "red"),
    ]


async def _do(
    bus: Connection, procedure: str, what: str, native_id: str, group: str, otherwise: str = "is gone"
) -> int:
    chosen = await _chosen(bus, native_id, group)
    portions: dict[tuple[str, str], list[str]] = {}
    for instance, each in chosen:
        portions.setdefault((instance, each["group"]), []).append(each["native_id"])
    with bus.output.progress("Going through them", len(chosen)) as advance:
        number = 0
        for (instance, name), ids in portions.items():
            for start in range(0, len(ids), AT_A_TIME):
                portion = ids[start : start + AT_A_TIME]
                arguments = {"group": name, "native_ids": portion}
                number += len(portion)
                try:
                    answer = await bus.client.call_rpc_remote(
                        "internal.events", procedure, arguments, {"peer": instance}
                    )
                except LightbusException as error:  # go on with the other publishers
                    bus.silent.add(instance)
                    bus.output.note(f"The outcome of {len(portion)} of them is not known: {error}")
                    continue
                done = set(answer)
                advance(number, "")
                _say(bus, name, portion, done, what, otherwise)
    return code_of(bus)


def _say(bus: Connection, group: str, native_ids: list[str], done: set[str], what: str, otherwise: str) -> None:
    for each in native_ids:
        if bus.output.as_json:
            bus.output.record({"group": group, "native_id": each, "done": each in done})
        else:
            bus.output.line(f"{each} {what} {group}" if each in done else f"{each} {otherwise}")


async def _all(bus: Connection, group: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for peer, first in await ask_publishers(bus, "dead", group=group):
        found += [(peer.instance, each) for each in await _all_of(bus, peer, first, group)]
    if group and not found:
        groups = await groups_on_bus(bus)
        if group not in (names := {each["name"] for each in groups}):
            raise no_such_group(group, names)
    return sorted(found, key=lambda pair: float(pair[1]["died_at"]))


async def _all_of(bus: Connection, peer: Peer, answer: DeadLetterPage, group: str) -> list[dict[str, Any]]:
    """
    Return all dead letters of a publisher, given its first answer: the size of an answer is limited.

    Each further page is requested from the last letter of the page before. If it begins with another letter, some were
    retried or dropped meanwhile, and the later ones have moved up: reading starts over, so that none is skipped.
    """
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    place, beginnings = len(answer), 1
    while answer and beginnings <= MAX_BEGINNINGS and len(seen) <= MAX_DEAD:
        seen |= {_key(each): each for each in answer}
        last = _key(answer[-1])
        answer = await _dead_letters_of(bus, peer, group, place - 1)
        if answer and _key(answer[0]) == last and place <= len(seen):
            answer = answer[1:] or await _dead_letters_of(
                bus, peer, group, place
            )  # the next letter may not fit into one answer with the last
            place += len(answer)
        else:
            answer = await _dead_letters_of(bus, peer, group, 0)
            place, beginnings = len(answer), beginnings + 1
    if answer:
        bus.silent.add(peer.instance)
        bus.output.note(
            f"{peer.announcement} has a list of dead letters without an end: only the first ones are shown."
        )
    return list(seen.values())


async def _dead_letters_of(bus: Connection, peer: Peer, group: str, skip: int) -> DeadLetterPage:
    answers = await ask_each(bus, [peer], "dead", group=group, skip=skip)
    return answers[0][1] if answers else []


def _key(letter: dict[str, Any]) -> tuple[str, str]:
    return letter["group"], letter["native_id"]


async def _chosen(bus: Connection, native_id: str, group: str) -> list[tuple[str, dict[str, Any]]]:
    found = [pair for pair in await _all(bus, group) if native_id in ("all", pair[1]["native_id"])]
    if not found and native_id == "all":
        bus.output.note(nothing_shown(bus, NONE))
    elif not found:
        raise NotReachable(f"No event {native_id} is a dead letter. `lightbus dead list` shows those that are.")
    return found
