"""`lightbus new`: a service with tests, typed and ready to run."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import click

from ...exceptions import UnsupportedUse
from ...service.reachable import OF_EVERY_PATH, OF_THE_ROOT
from ..support.new_service import service_files

__all__ = ["new"]


@click.command()
@click.argument("name")
@click.option("--in", "parent", metavar="DIRECTORY", type=click.Path(path_type=Path), default=Path("."),
              help="Where the service's directory is made. [default: here]")  # fmt: skip
def new(name: str, parent: Path) -> None:
    """Write a service of this name in a new directory: an API, a listener, tests, and their configuration.

    lightbus new greeter && cd greeter && lightbus run
    """
    is_taken = keyword.iskeyword(name) or name.replace("-", "_") in {*OF_THE_ROOT, *OF_EVERY_PATH, "internal"}
    if is_taken or not re.fullmatch(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*", name):
        raise UnsupportedUse(
            f"'{name}' is not a name for a service and its API. Write small letters and digits, with - or _ between "
            "words: greeter, image-store."
        )
    directory = parent / name
    try:
        directory.mkdir(parents=True)
        for file, text in service_files(name).items():
            (directory / file).parent.mkdir(exist_ok=True)
            (directory / file).write_text(text, "utf-8")
    except FileExistsError:
        raise UnsupportedUse(f"{directory} exists already. Choose another name, or remove it.") from None
    except OSError as error:
        raise UnsupportedUse(
            f"{directory} cannot be written: {error.strerror}. Name another directory: --in."
        ) from None
    click.echo(f"{directory} has a service. In it:\n\n    lightbus run      serves it\n    pytest           tests it\n")
    click.echo("README.md there says what is where.")
