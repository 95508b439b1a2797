"""`lightbus version`."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version as version_of

import click

__all__ = ["version"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Show JSON, one object a line (docs/cli.md).")
def version(as_json: bool) -> None:
    """Show the versions of Lightbus and what it is built on."""
    from ...__about__ import version as own_version
    from ...engine.zmq_network import versions

    found = {"lightbus": own_version(), "python": platform.python_version(), **versions()}
    found |= {name: version_of(name) for name in ("zeroconf", "msgpack")}
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"lightbus {found.pop('lightbus')}")
    above = ("zeroconf", "msgpack")
    click.echo(", ".join(f"{name} {of}" for name, of in found.items() if name not in above))
    click.echo(", ".join(f"{name} {found[name]}" for name in above))
