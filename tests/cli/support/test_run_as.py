from __future__ import annotations

import sys

import click
from click.testing import CliRunner

from lightbus.cli.support.run_as import RunAs


@click.command()
def show() -> None:
    print(" ".join(RunAs.current().command))


def test_program_around_the_command() -> None:
    """Another program can set how the command is started; by default it is `python -m lightbus run`."""
    assert CliRunner().invoke(show).output == f"{sys.executable} -m lightbus run\n"
    assert CliRunner().invoke(show, obj=RunAs(command=("manage.py", "runlightbus"))).output == "manage.py runlightbus\n"
