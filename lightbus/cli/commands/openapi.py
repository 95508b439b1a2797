"""`lightbus openapi`: what is on the bus, as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping

import click

from ..schemas.gathering import DescribedApi
from ..specifications.openapi import openapi_document
from ..specifications.source import DocumentForm, SpecificationSource, document_options
from ..support.output import Output

__all__ = ["openapi"]


@click.command()
@click.option("--server", "servers", metavar="URL", multiple=True, help="Where calls are taken: a gateway of yours.")
@document_options
def openapi(source: SpecificationSource, form: DocumentForm, servers: tuple[str, ...]) -> None:
    """Write what is on the bus as an OpenAPI 3.1 document: procedures as POST, and events as webhooks.

    `lightbus gateway` accepts such calls, and serves its own document of what is open (docs/gateway.md). From the APIs
    on the bus, or from a bus module (--bus), or from a file that `lightbus dumpschema` wrote (--schema).
    """

    def finish(apis: Mapping[str, DescribedApi], output: Output) -> None:
        document = openapi_document(apis, title=form.title_of(apis), version=form.version, servers=servers)
        form.write(document, output)

    source.give(finish)
