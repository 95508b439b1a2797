"""The screen that `lightbus top` draws."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from lightbus.cli.support.loads import GroupLag, Load
from lightbus.cli.support.procedure_loads import ProcedureLoad
from lightbus.cli.support.top_screen import Rows, drawn
from lightbus.cli.support.top_view import TopView


def load(service: str = "auth", process: str = "one", instance: str = "1234567890abcdef", **fields: Any) -> Load:
    """Return a worker's row."""
    counted: Any = {"calls": 0.0, "errors": 0.0, "events": 0.0, "running": 0, "queued": 0, "lag": 0} | fields
    return Load(service=service, process=process, instance=instance, host="h", p50=None, p99=0.1, **counted)


GROUP = GroupLag(api="auth", group="shop-greeter", members=1, publishers=1, lag=2)
CHECK = ProcedureLoad(api="auth", procedure="check", workers=2, calls=3.0, errors=0.0, p50=0.1, p99=0.1)


def screen(rows: Rows, view: TopView, *, width: int = 80, height: int = 24, colour: bool = False) -> str:
    """Return the screen as text."""
    console = Console(
        width=width, height=height, color_system="standard" if colour else None, force_terminal=colour, markup=False
    )
    with console.capture() as captured:
        console.print(drawn(rows, view, bus="b", size=(width, height)))
    return captured.get()


def test_equal_names_are_distinguished() -> None:
    """Workers of one service show their processes at any width, and those of one name the start of their ids."""
    workers = [load(), load(instance="fedcba0987654321"), load(process="two"), load(service="shop")]
    lines = screen(Rows(workers, [], []), TopView(sort="service")).splitlines()
    assert [" ".join(line.split()[:3]) for line in lines[2:4]] == ["auth one 1234…", "auth one fedc…"]
    assert lines[4].split()[:3] == ["auth", "two", "h"]  # what it is called is enough
    narrow = screen(Rows(workers, [], []), TopView(sort="service"), width=60).splitlines()
    assert [" ".join(line.split()[:3]) for line in narrow[2:4]] == ["auth one 1234…", "auth one fedc…"]


@pytest.mark.parametrize(("field", "style"), [("errors", "\x1b[31m"), ("queued", "\x1b[33m"), ("lag", "\x1b[33m")])
def test_errors_and_lag_are_coloured(field: str, style: str) -> None:
    """Errors above 0 are red, queues and lag yellow; all other cells are plain."""
    assert f"{style}7" in screen(Rows([load(**{field: 7})], [], []), TopView(), colour=True).replace(" ", "")
    assert style not in screen(Rows([load()], [], []), TopView(), colour=True)


def test_only_and_procedures() -> None:
    """The filter applies to all tables; procedures replace workers."""
    rows = Rows([load(), load(service="shop")], [CHECK], [GROUP])
    text = screen(rows, TopView(only="sho"))
    assert "only 'sho'" in text
    assert "shop-greeter" in text
    assert [line.split()[0] for line in text.splitlines()[2:3]] == ["shop"]
    assert not any(line.startswith("auth") for line in text.splitlines())
    text = screen(rows, TopView(by_procedure=True, only="auth.*"))
    assert "PROCEDURE" in text
    assert "auth.check" in text
    assert "shop-greeter" not in text


@pytest.mark.parametrize("width", [60, 80, 140])
def test_screen_fits_any_terminal_size(width: int) -> None:
    """The help for keys is always shown, and no more lines than fit; rows left out are counted."""
    rows = Rows([load(process=str(n)) for n in range(50)], [], [GROUP] * 50)
    lines = screen(rows, TopView(), width=width).splitlines()
    assert len(lines) <= 24
    assert lines[-1].rstrip().endswith("q quits")
    assert any(line.startswith("and ") and line.rstrip().endswith(" more") for line in lines)
