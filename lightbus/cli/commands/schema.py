"""`lightbus schema diff`: the differences between two versions of schemas, and what they break."""

from __future__ import annotations

from pathlib import Path

import click

from ..schemas.changes import breaking, changes
from ..schemas.gathering import schemas_of_files
from ..schemas.reporting import report
from ..support.output import Output

__all__ = ["schema"]

FILES = click.Path(path_type=Path)


@click.group()
def schema() -> None:
    """Compare files that `lightbus dumpschema` wrote."""


@schema.command()
@click.argument("old", type=FILES)
@click.argument("new", type=FILES)
@click.option("--json", "as_json", is_flag=True, help="Show JSON, one object a line (docs/cli.md).")
def diff(old: Path, new: Path, as_json: bool) -> None:
    """Show what changed of each procedure and event between two files or directories, and what it breaks.

    The exit code is 1 if a change is breaking.
    """
    found = changes(schemas_of_files(old), schemas_of_files(new))
    report(Output(as_json=as_json), found)
    raise SystemExit(1 if breaking(found) else 0)
