"""`lightbus describe`: an API or one member of it, with its docstring, its servers and its listeners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import click

from ...core.peers import Peer
from ..support.catalogue import ServedApi, served_apis, split_name
from ..support.completing import complete_names
from ..support.connection import SERVICE, Connection, first_answer, on_bus
from ..support.named_types import NamedType, named_types
from ..support.options import ClientOptions, client_options
from ..support.output import Output
from ..support.publishers import ask_for_groups

__all__ = ["describe"]


@click.command()
@click.argument("name", shell_complete=complete_names)
@click.option(
    "--depth",
    type=click.IntRange(0, 100),
    default=1,
    show_default=True,
    metavar="N",
    help="Explain the types in signatures (1), and the types in those (2, ...).",
)
@client_options
def describe(options: ClientOptions, name: str, depth: int) -> None:
    """Show an API (auth) or one member of it (auth.check_password).

    Signatures and docstrings, from a peer that serves it; events with their parameters; the fields of the types in
    them; the peers that serve it, and the groups that listen. If peers serve different versions, it says so, and
    shows the latest.
    """
    on_bus(options, lambda bus: _describe(bus, name, depth))


async def _describe(bus: Connection, name: str, depth: int) -> None:
    peers = await bus.discover_all()
    api, member = split_name(name, served_apis(peers))
    fields = await _fields(bus, api, peers, member)
    members = [*fields["procedures"], *fields["events"]]
    schemas = [each[part] for each in members for part in ("parameters", "response") if part in each]
    types, deeper = named_types(schemas, depth)
    if bus.output.as_json:
        bus.output.record({**fields, "types": [each.as_record() for each in types], "more_types": deeper})
    else:
        _show(bus.output, fields)
        _show_types(bus.output, types)
        _show_users(bus.output, fields)
        if deeper:
            bus.output.note(f"Not explained: {', '.join(deeper)} (--depth {depth + 1}).")


async def _fields(bus: Connection, api: ServedApi, peers: list[Peer], member: str | None) -> dict[str, Any]:
    async def ask(peer: Peer) -> tuple[dict[str, Any], dict[str, Any]]:
        described = await bus.ask(peer, "describe", api=api.name)
        return described, await bus.ask(peer, "schema", api=api.name)

    described, schema = await first_answer(api.latest_peers, ask)
    infos = await bus.ask_all([peer for peer in peers if peer.is_up], "info")
    kept_for = [group for _, groups in await ask_for_groups(bus, api.peers, api=api.name) for group in groups]
    return {
        "api": api.name,
        "version": described["version"],
        "versions": api.versions,
        "mixed": api.is_mixed,
        "doc": described["doc"],
        "procedures": [
            {**each, **schema.get("rpcs", {}).get(each["name"], {})} for each in _only(described["procedures"], member)
        ],
        "events": [
            {**each, **schema.get("events", {}).get(each["name"], {})} for each in _only(described["events"], member)
        ],
        "peers": api.fields()["peers"],
        "groups": _groups(infos, kept_for, api.name, member),
    }


def _only(members: Iterable[dict[str, Any]], name: str | None) -> list[dict[str, Any]]:
    return [each for each in members if name in (None, each["name"])]


def _groups(
    infos: Iterable[dict[str, Any]], kept_for: Iterable[dict[str, Any]], api: str, member: str | None
) -> list[dict[str, Any]]:
    """
    Return the listeners: an entry for each consumer group, with the number of its processes.

    Listeners without a group, where each process gets every event, have separate entries. Commands are left out.
    """
    found: Counter[tuple[str, tuple[str, ...], bool]] = Counter()
    for info in infos:
        for listener in info.get("listeners", ()) if info.get("service") != SERVICE else ():
            if listener["api"] == api and (member is None or {member, "*"} & {*listener["events"]}):
                name = f"{info['service']}-{listener['name']}"
                group = listener.get("group", name)  # peers without this field always have a group
                found[group or name, tuple(listener["events"]), group is not None] += 1
    present = {group for group, _, is_shared in found if is_shared}
    for group in kept_for:
        if group["name"] not in present and (member is None or {member, "*"} & {*group["events"]}):
            found[group["name"], tuple(group["events"]), True] += 0
    return [
        {"group": group, "events": [*events], "processes": count, "shared": is_shared}
        for (group, events, is_shared), count in sorted(found.items())
    ]


def _show(output: Output, fields: dict[str, Any]) -> None:
    output.line((f"{fields['api']}, version {fields['version']}", "bold"))
    _paragraph(output, fields["doc"], indent=0)
    if fields["mixed"]:
        output.line((f"MIXED: its peers do not all serve the same (versions {fields['versions']}).", "yellow"))
    for title, members in (("Procedures", fields["procedures"]), ("Events", fields["events"])):
        if members:
            output.line("")
            output.line((title, "bold"))
        for each in members:
            output.line("  ", (each["signature"], "cyan"), _member_notes(each))
            _paragraph(output, each.get("doc", ""), indent=6)


def _show_types(output: Output, types: Iterable[NamedType]) -> None:
    for number, each in enumerate(types):
        if not number:
            output.line("")
            output.line(("Types", "bold"))
        output.line("  ", (each.name, "cyan"))
        _paragraph(output, each.doc, indent=6)
        for line in each.lines():
            output.line("    ", line)


def _show_users(output: Output, fields: dict[str, Any]) -> None:
    _list(output, "Served by", [_peer(each, mixed=fields["mixed"]) for each in fields["peers"]])
    _list(output, "Listened to by", map(_group, fields["groups"]))


def _member_notes(member: dict[str, Any]) -> str:
    if "delivery" not in member:
        return ""
    remarks = [member["delivery"].replace("_", " "), *([f"in order by {member['key']}"] if member["key"] else [])]
    return f"  ({', '.join(remarks)})"


def _paragraph(output: Output, text: str, *, indent: int) -> None:
    for line in text.splitlines():
        output.line(" " * indent, (line, "dim" if indent else ""))


def _list(output: Output, title: str, lines: Iterable[str]) -> None:
    listed = [*lines]
    output.line("")
    output.line((title, "bold"), "" if listed else "  nobody")
    for line in listed:
        output.line("  ", line)


def _peer(served: dict[str, Any], *, mixed: bool) -> str:
    text = f"{served['service']} {served['process']} ({served['instance'][:4]}…)"
    return f"{text}, version {served['version']}, schema {served['digest']}" if mixed else text


def _group(group: dict[str, Any]) -> str:
    count = group["processes"]
    processes = f", {count} processes" if count > 1 else ", no process now" if not count else ""
    if not group["shared"]:
        processes = f", each process everything ({count})"
    return f"{group['group']}: {', '.join(group['events'])}{processes}"
