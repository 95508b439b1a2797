"""`lightbus cheat`: the shown commands exist, and the screen fits."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from lightbus.cli import _group
from lightbus.cli.commands.cheat import LINES

COMMANDS = [written for _, written, _ in LINES if written.startswith("lightbus ")]
PYTHON = "".join(written for _, written, _ in LINES if written not in COMMANDS).replace("bus.", "; bus.")[2:]


def shown() -> str:
    """Return what the command writes into a pipe."""
    result = CliRunner().invoke(_group, ["cheat"])
    assert result.exit_code == 0, result.output
    return result.output


def test_cheat_sheet_fits_a_small_terminal() -> None:
    """All of it is on a terminal of 80 columns and 24 lines, with a line left for the prompt."""
    lines = shown().splitlines()
    assert len(lines) <= 23
    assert [line for line in lines if len(line) > 80] == []
    assert all(f"{written} " in "\n".join(lines) for _, written, _ in LINES)


@pytest.mark.parametrize("written", COMMANDS)
def test_each_command_can_be_given(written: str) -> None:
    """Each line is one that the command takes as it is written."""
    command: click.Command = _group
    words = shlex.split(written)[1:]
    while isinstance(command, click.Group) and words:
        if (found := command.get_command(click.Context(command), words[0])) is None:
            break  # `lightbus peers` has commands of its own, and is one itself
        command, words = found, words[1:]
    assert command is not _group, written
    command.make_context(written, words)


def test_the_python_of_it() -> None:
    """It is Python, and names what the commands name."""
    calls = [ast.unparse(each) for each in ast.walk(ast.parse(PYTHON)) if isinstance(each, ast.Call)]
    assert calls == [
        "bus.shop.orders.place(item='tea')",
        "bus.shop.orders.placed.fire(item='tea')",
        "bus.shop.orders.placed.listen(handler, listener_name='mail')",
    ]


def test_the_page_has_it() -> None:
    """The page of the command line shows what the command shows."""
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text("utf-8")
    assert shown().strip() in page
