"""`lightbus context`: named settings by which commands reach a bus."""

from __future__ import annotations

from typing import Any

import click

from ...exceptions import UnsupportedUse
from ..support.contexts import FIELDS, complete_contexts, load_contexts, save_contexts
from ..support.output import Column, Output

__all__ = ["context"]

COLUMNS = (
    Column(title=""),
    Column(title="CONTEXT"),
    Column(title="BUS"),
    Column(title="KEY FILE"),
    Column(title="SECURITY", optional=1),
    Column(title="PEERS", optional=2),
    Column(title="INTERFACES", optional=3),
    Column(title="CONFIG", optional=4),
)

SHOWN = ("bus_name", "key_file", "security", "peers", "interfaces", "config")

FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


@click.group()
def context() -> None:
    """Name buses, and how to reach them.

    lightbus context add office --key-file office.key --peers 192.0.2.7:5880

    Then `lightbus peers --context office` looks there, and after `lightbus context use office` each command does.
    """


@context.command()
@click.argument("name")
@click.option("--bus-name", metavar="NAME", help="The bus.")
@click.option("--key-file", type=FILE, help="The file of its key.")
@click.option("--security", type=click.Choice(["bus_key", "host", "insecure"]), help="Who gets in.")
@click.option("--peers", metavar="HOST:PORT,...", help="Fixed peers.")
@click.option("--interfaces", metavar="NAMES", help="Names or addresses of interfaces, with commas.")
@click.option("--config", metavar="FILE", help="The configuration: a path or an https URL.")
@click.option("--replace", is_flag=True, help="Replace one of this name.")
@click.option("--use", is_flag=True, help="Use it from now on.")
def add(name: str, replace: bool, use: bool, **given: str | None) -> None:
    """Add a context. Settings that it does not give are not changed by it."""
    contexts = load_contexts()
    said = {key: value for key, value in given.items() if value}
    if not said:
        raise click.UsageError(f"A context needs a setting: give one of {', '.join(map(_option, FIELDS))}.")
    if name in contexts.said and not replace:
        raise UnsupportedUse(f"There is a context '{name}' already. Give --replace to have this one in its place.")
    contexts.said[name] = said
    contexts.current = name if use else contexts.current
    save_contexts(contexts)
    click.echo(f"{name} is added" + (", and in use." if use else f": lightbus peers --context {name}"))


@context.command("list")
@click.option("--json", "as_json", is_flag=True, help="Show JSON, one object a line (docs/cli.md).")
def list_contexts(as_json: bool) -> None:
    """Show the contexts; the one in use has a star."""
    contexts = load_contexts()
    output = Output(as_json=as_json)
    for name, said in sorted(contexts.said.items()) if as_json else ():
        output.record({"context": name, "current": name == contexts.current, **{key: said.get(key) for key in FIELDS}})
    if as_json:
        return
    rows = [_row(name, said, current=contexts.current) for name, said in sorted(contexts.said.items())]
    if rows:
        output.table(COLUMNS, rows)
    else:
        output.note("There is no context yet: lightbus context add NAME ...")


@context.command()
@click.argument("name", required=False, shell_complete=complete_contexts)
@click.option("--none", "no_one", is_flag=True, help="Use no context.")
def use(name: str | None, no_one: bool) -> None:
    """Use this context for commands that name none. Environment variables that are set override it."""
    if (name is None) != no_one:
        raise click.UsageError("Name a context, or give --none.")
    contexts = load_contexts()
    if name is not None:
        contexts.get(name)
    contexts.current = name or ""
    save_contexts(contexts)
    click.echo(f"{name} is in use." if name else "No context is in use.")


@context.command()
@click.argument("name", shell_complete=complete_contexts)
def remove(name: str) -> None:
    """Remove a context. The files that it names stay."""
    contexts = load_contexts()
    contexts.get(name)
    del contexts.said[name]
    contexts.current = "" if contexts.current == name else contexts.current
    save_contexts(contexts)
    click.echo(f"{name} is removed.")


def _row(name: str, said: dict[str, str], *, current: str) -> list[Any]:
    return ["*" if name == current else "", (name, "bold"), *(said.get(key, "") for key in SHOWN)]


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"
