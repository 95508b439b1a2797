"""`lightbus asyncapi`: what is on the bus, as an AsyncAPI document."""

from __future__ import annotations

from collections.abc import Mapping

import click

from ..schemas.gathering import DescribedApi
from ..specifications.asyncapi import asyncapi_document
from ..specifications.source import DocumentForm, SpecificationSource, document_options
from ..support.output import Output

__all__ = ["asyncapi"]


@click.command()
@document_options
def asyncapi(source: SpecificationSource, form: DocumentForm) -> None:
    """Write what is on the bus as an AsyncAPI 3 document: procedures with their replies, and events.

    For documentation tools, code generators and catalogues. From the APIs on the bus, or from a bus module (--bus), or
    from a file that `lightbus dumpschema` wrote (--schema).
    """

    def finish(apis: Mapping[str, DescribedApi], output: Output) -> None:
        form.write(asyncapi_document(apis, title=form.title_of(apis), version=form.version), output)

    source.give(finish)
