"""Shared by the commands that write specifications: the source of the APIs, and the output of the document."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from ...exceptions import UnknownApi, UnsupportedUse
from ..schemas.gathering import DescribedApi, described_of_files, described_of_module, described_on_bus
from ..support.connection import Connection, on_bus
from ..support.options import ClientOptions, client_options
from ..support.output import Output, listed

__all__ = ["DocumentForm", "SpecificationSource", "document_options", "specification_options", "write_document"]

PATH = click.Path(path_type=Path)

Finish = Callable[[Mapping[str, DescribedApi], Output], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecificationSource:
    """
    The source of the APIs, from the command line.

    Attributes:
        options: the options of a client of the bus.
        module: a bus module, instead of the bus.
        schema: a file or directory that `dumpschema` wrote, instead of the bus.
        patterns: patterns of API names; all APIs if there are none.

    """

    options: ClientOptions
    module: str | None
    schema: Path | None
    patterns: tuple[str, ...]

    def give(self, finish: Finish) -> None:
        """Pass the APIs to `finish`, and end the program."""
        if self.module is not None and self.schema is not None:
            raise UnsupportedUse("--bus and --schema were both given: name one of them.")
        if self.schema is not None:
            finish(self._chosen(described_of_files(self.schema)), self._output())
        elif self.module is not None:
            finish(self._chosen(self._of_module(self.module)), self._output())
        else:
            on_bus(self.options, lambda bus: self._from_bus(bus, finish))

    async def _from_bus(self, bus: Connection, finish: Finish) -> None:
        finish(self._chosen(await described_on_bus(bus)), bus.output)

    def _of_module(self, module: str) -> dict[str, DescribedApi]:
        from ...creation import configure_logging
        from ..support.bus_module import load_bus
        from ..support.options import apply_options

        configure_logging(self.options.log_level or "warning")
        apply_options(service_name=None, process_name=None, config_file=self.options.config_file, log_level=None)
        return described_of_module(load_bus(module)[0])

    def _output(self) -> Output:
        return Output(as_json=self.options.as_json, form=self.options.output_form)

    def _chosen(self, apis: Mapping[str, DescribedApi]) -> dict[str, DescribedApi]:
        chosen = {
            name: api
            for name, api in apis.items()
            if not self.patterns or any(fnmatchcase(name, pattern) for pattern in self.patterns)
        }
        if not chosen:
            wanted = f"matches {' or '.join(self.patterns)}" if self.patterns else "is there"
            raise UnknownApi(f"No API {wanted}. There are: {listed(sorted(apis)) or 'none at all'}.")
        return chosen


def specification_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --bus, --schema, --api and the options of a client; the command gets them as one SpecificationSource."""

    @functools.wraps(function)
    def command(
        options: ClientOptions, module: str | None, schema: Path | None, patterns: tuple[str, ...], **own: Any
    ) -> None:
        function(SpecificationSource(options=options, module=module, schema=schema, patterns=patterns), **own)

    changed: Callable[..., None] = client_options(command)
    for option in (
        click.option("--api", "patterns", metavar="PATTERN", multiple=True, help="Only these APIs: auth, or shop.*"),
        click.option("--schema", metavar="PATH", type=PATH, help="What `dumpschema` wrote, instead of the bus."),
        click.option("--bus", "-b", "module", metavar="MODULE", help="The APIs of a bus module, instead of the bus."),
    ):
        changed = option(changed)
    return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentForm:
    """
    The form of the document, from the command line.

    Attributes:
        title, version: title and version of the document, or None.
        out: the file; None for standard output.
        as_yaml: whether to write YAML whatever the file's name.

    """

    title: str | None
    version: str | None
    out: Path | None
    as_yaml: bool

    def title_of(self, apis: Mapping[str, DescribedApi]) -> str:
        """Return the title of a document about some APIs."""
        return self.title or ", ".join(sorted(apis))

    def write(self, document: Mapping[str, Any], output: Output) -> None:
        """Write the document to the file or standard output."""
        write_document(document, self.out, output, as_yaml=self.as_yaml)


def document_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `specification_options`, and --out, --yaml, --title, --version as one DocumentForm."""

    @functools.wraps(function)
    def command(
        source: SpecificationSource, title: str | None, version: str | None, out: Path | None, as_yaml: bool, **own: Any
    ) -> None:
        function(source, DocumentForm(title=title, version=version, out=out, as_yaml=as_yaml), **own)

    changed = specification_options(command)
    for option in (
        click.option("--version", metavar="TEXT", help="Its version. [default: that of the API, if it is one]"),
        click.option("--title", metavar="TEXT", help="The document's title. [default: the names of the APIs]"),
        click.option("--yaml", "as_yaml", is_flag=True, help="Write YAML, not JSON."),
        click.option("--out", metavar="FILE", type=PATH, help="A file: YAML where it is called so."),
    ):
        changed = option(changed)
    return changed


def write_document(document: Mapping[str, Any], out: Path | None, output: Output, *, as_yaml: bool) -> None:
    """Write a document as JSON or, if asked for or by the file's name, as YAML."""
    if as_yaml or output.form == "yaml" or (out is not None and out.suffix in (".yaml", ".yml")):
        import yaml

        text = yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False, allow_unicode=True, width=110)
    else:
        text = json.dumps(document, indent=None if output.as_json else 2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    except OSError as error:
        raise UnsupportedUse(
            f"The document cannot be written to {out}: {error.strerror}. Name another --out."
        ) from None
    output.note(f"Written to {out}.")
