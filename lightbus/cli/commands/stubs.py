"""`lightbus stubs`: types of everything on the bus, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from ...exceptions import UnsupportedUse
from ...typing import JsonSchema
from ..schemas.changes import changes
from ..schemas.gathering import schemas_of_files, schemas_on_bus
from ..schemas.reporting import report
from ..schemas.stub_file import file_of, read_back, stub_text
from ..support.connection import Connection, on_bus
from ..support.options import ClientOptions, client_options_beside_out
from ..support.output import Output

__all__ = ["stubs"]

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--out", "-o", metavar="FILE", type=PATH, help="A stub beside your bus module: bus.pyi.")
@click.option("--package", metavar="DIRECTORY", type=PATH, help="A package to import `typed` from: typed_bus.")
@click.option("--schema", "source", metavar="PATH", type=PATH, help="What `dumpschema` wrote, instead of the bus.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 where it would be written differently.")
@client_options_beside_out
def stubs(options: ClientOptions, out: Path | None, package: Path | None, source: Path | None, check: bool) -> None:
    """Write the types of everything on the bus, so that an editor completes and a type checker checks.

    With --check, show what changed since they were written, and what that breaks.
    """
    if out is not None and package is not None:
        raise UnsupportedUse("--out and --package were both given: name one of them.")
    file = file_of(out, package)
    if check and file is None:
        raise UnsupportedUse("--check compares with a file: name it by --out or --package.")
    if options.as_json and file is None:
        raise UnsupportedUse("--json shows what --check finds, and types are no JSON: leave it out, or name a file.")

    def finish(schemas: Mapping[str, JsonSchema], output: Output) -> int:
        text = stub_text(schemas, package=package is not None)
        if check and file is not None:
            return _check(file, schemas, text, output)
        _write(file, text, package)
        return 0

    async def from_bus(bus: Connection) -> int:
        return finish(await schemas_on_bus(bus), bus.output)

    if source is not None:
        raise SystemExit(finish(schemas_of_files(source), Output(as_json=options.as_json)))
    on_bus(options, from_bus)


def _check(file: Path, schemas: Mapping[str, JsonSchema], text: str, output: Output) -> int:
    try:
        written = file.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UnsupportedUse(f"{file} cannot be read: {error}. Write it with `lightbus stubs` first.") from None
    found = changes(read_back(written, file), schemas)
    report(output, found)
    if not found and written != text:
        output.note(f"{file} was changed, or written by another version of lightbus: write it again.")
    return int(written != text)


def _write(file: Path | None, text: str, package: Path | None) -> None:
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        if package is not None:
            (package / "py.typed").touch()
    except OSError as error:
        raise UnsupportedUse(f"The types cannot be written to {file}: {error.strerror}. Name another place.") from None
