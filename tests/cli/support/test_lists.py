"""Lists: columns, sorting, and repeated output."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from lightbus.cli.support.connection import Connection
from lightbus.cli.support.lists import Listing, ListView, Row, list_options, show_list
from lightbus.cli.support.output import Column, Output
from lightbus.exceptions import NotReachable

COLUMNS = (Column(title="NAME"), Column(title="LAG", right=True, optional=1), Column(title="UP FOR"))
ROWS = [
    Row(fields={"name": name, "lag": lag, "members": members}, cells=[name, str(lag), "1 h"])
    for name, lag, members in (("mail", 9, ["a"]), ("audit", 10, []), ("push", None, ["a", "b"]))
]


def shown(
    capsys: pytest.CaptureFixture[str], *, as_json: bool = False, rows: Sequence[Row] = ROWS, **view: Any
) -> list[str]:
    """Return the lines of a list that is shown once."""
    bus = cast(Connection, SimpleNamespace(output=Output(as_json=as_json), name="b"))

    async def read(bus: Connection) -> Listing:
        return Listing(rows=rows, empty="Nothing is there.", code=7)

    assert asyncio.run(show_list(bus, ListView(**view), COLUMNS, read)) == 7
    out, err = capsys.readouterr()
    return (out + err).splitlines()


def test_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """All columns, in the list's own order; a note for an empty list, and nothing with --json."""
    assert [line.split()[0] for line in shown(capsys)] == ["NAME", "mail", "audit", "push"]
    assert shown(capsys, rows=[]) == ["Nothing is there."]
    assert shown(capsys, rows=[], as_json=True) == []


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("lag", ["mail", "audit", "push"]),  # by number, not by text
        ("-LAG", ["audit", "mail", "push"]),  # what has none is last, in either order
        ("name", ["audit", "mail", "push"]),
        ("-name", ["push", "mail", "audit"]),
    ],
)
def test_rows_are_sorted_by_a_column(capsys: pytest.CaptureFixture[str], sort: str, names: list[str]) -> None:
    """By a column's value, for people and for programs alike."""
    assert [line.split()[0] for line in shown(capsys, sort=sort)][1:] == names
    assert [json.loads(line)["name"] for line in shown(capsys, sort=sort, as_json=True)] == names


def test_named_columns_are_shown_in_that_order(capsys: pytest.CaptureFixture[str]) -> None:
    """The named columns, in that order; with --json the fields."""
    assert shown(capsys, columns=("up for", "Name"))[:2] == ["UP FOR  NAME", "1 h     mail"]
    assert json.loads(shown(capsys, columns=("members", "lag"), as_json=True)[0]) == {"members": ["a"], "lag": 9}
    lines = shown(capsys, columns=("name",), sort="-members", as_json=True)
    assert [json.loads(line) for line in lines] == [{"name": "push"}, {"name": "mail"}, {"name": "audit"}]


@pytest.mark.parametrize(
    ("as_json", "words"),
    [(False, "no column 'lga'. Did you mean"), (True, "no field 'lga'. Did you mean .* There are: lag, ")],
)
def test_a_column_there_is_not(capsys: pytest.CaptureFixture[str], as_json: bool, words: str) -> None:
    """The error lists the existing columns."""
    for view in ({"columns": ("name", "lga")}, {"sort": "-lga"}):
        with pytest.raises(click.UsageError, match=words) as caught:
            shown(capsys, as_json=as_json, **view)
        assert "lag" in caught.value.message.lower().replace("lga", "")


def test_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    """Until a signal, with exit code 0; an empty bus does not end it."""
    bus = cast(Connection, SimpleNamespace(output=Output(), name="b"))
    reads: list[Listing | NotReachable] = [
        Listing(rows=ROWS[:1], empty="", code=3), NotReachable("Nobody is there."), Listing(rows=ROWS[1:2], empty="")
    ]  # fmt: skip

    async def read(bus: Connection) -> Listing:
        told = reads.pop(0)
        if not reads:
            signal.raise_signal(signal.SIGINT)
        if isinstance(told, NotReachable):
            raise told
        return told

    assert asyncio.run(show_list(bus, ListView(every=0.01), COLUMNS, read)) == 0
    out, err = capsys.readouterr()
    assert ([line.split()[0] for line in out.splitlines()], err) == (
        ["NAME", "mail", "NAME", "audit"], "Nobody is there.\n",
    )  # fmt: skip


def test_columns_and_order_are_given_as_options() -> None:
    """The command gets them as one ListView."""
    given: list[ListView] = []

    @click.command()
    @list_options
    def command(view: ListView) -> None:
        given.append(view)

    run = CliRunner().invoke
    for args in ([], ["--columns", "name, lag,", "--sort", "-lag", "--watch"], ["-w", "--every", "9"]):
        assert run(command, args).exit_code == 0
    assert given == [ListView(), ListView(columns=("name", "lag"), sort="-lag", every=2.0), ListView(every=9.0)]
