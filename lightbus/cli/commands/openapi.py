"""`lightbus openapi`: what is on the bus, as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from ..schemas.gathering import DescribedApi
from ..specifications.openapi import openapi_document
from ..specifications.source import Source, specification_options, write_document
from ..support.output import Output

__all__ = ["openapi"]


@click.command()
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="A file: YAML where it is called so.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Write YAML, not JSON.")
@click.option("--title", metavar="TEXT", help="The document's title. [default: the names of the APIs]")
@click.option("--version", metavar="TEXT", help="The document's version. [default: that of the API, if it is one]")
@click.option("--server", "servers", metavar="URL", multiple=True, help="Where calls are taken: a gateway of yours.")
@specification_options
def openapi(
    source: Source, title: str | None, version: str | None, servers: tuple[str, ...], out: Path | None, as_yaml: bool
) -> None:
    """Write what is on the bus as an OpenAPI 3.1 document: procedures as POST, and events as webhooks.

    A gateway has to take the calls: the bus has no HTTP of its own (docs/how-to/http.md has one). From what
    is on the bus, or from a bus module (--bus), or from what `lightbus dumpschema` wrote (--schema).
    """

    def finish(apis: Mapping[str, DescribedApi], output: Output) -> None:
        document = openapi_document(apis, title=title or ", ".join(sorted(apis)), version=version, servers=servers)
        write_document(document, out, output, as_yaml=as_yaml)

    source.give(finish)
