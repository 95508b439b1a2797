"""`lightbus asyncapi`: what is on the bus, as an AsyncAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from ..schemas.gathering import DescribedApi
from ..specifications.asyncapi import asyncapi_document
from ..specifications.source import Source, specification_options, write_document
from ..support.output import Output

__all__ = ["asyncapi"]


@click.command()
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="A file: YAML where it is called so.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Write YAML, not JSON.")
@click.option("--title", metavar="TEXT", help="The document's title. [default: the names of the APIs]")
@click.option("--version", metavar="TEXT", help="The document's version. [default: that of the API, if it is one]")
@specification_options
def asyncapi(source: Source, title: str | None, version: str | None, out: Path | None, as_yaml: bool) -> None:
    """Write what is on the bus as an AsyncAPI 3 document: procedures with their replies, and events.

    For documents, code generators and catalogues that read that form. From what is on the bus, or from a bus module
    (--bus), or from what `lightbus dumpschema` wrote (--schema).
    """

    def finish(apis: Mapping[str, DescribedApi], output: Output) -> None:
        document = asyncapi_document(apis, title=title or ", ".join(sorted(apis)), version=version)
        write_document(document, out, output, as_yaml=as_yaml)

    source.give(finish)
