"""`lightbus dumpconfigschema`: the JSON Schema of the configuration file, for editors that validate while typing."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ...exceptions import UnsupportedUse

__all__ = ["dumpconfigschema"]


@click.command()
@click.option("--out", "-o", metavar="FILE", type=click.Path(path_type=Path), help="Where to write it.")
def dumpconfigschema(out: Path | None) -> None:
    """Write the JSON Schema (2020-12) of the configuration file, to standard output or a file."""
    from ...config import config_schema

    text = json.dumps(config_schema(), indent=2) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UnsupportedUse(f"The schema cannot be written to {out}: {error.strerror}. Name another --out.") from None
