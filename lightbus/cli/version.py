"""`lightbus version`."""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of

import click

__all__ = ["version"]


@click.command()
def version() -> None:
    """Show the versions of Lightbus and what it is built on."""
    from ..io.transport import versions

    click.echo(f"lightbus {version_of('lightbus')}")
    click.echo(f"python {platform.python_version()}, {', '.join(f'{name} {of}' for name, of in versions().items())}")
    click.echo(f"zeroconf {version_of('zeroconf')}, msgpack {version_of('msgpack')}")
