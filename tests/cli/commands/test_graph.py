"""`lightbus graph`: its forms, and as a process against real workers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.scripted_bus import peer
from lightbus.cli.commands import graph
from lightbus.cli.commands.graph import Edge, dot, edges_between, mermaid, tree
from lightbus.exceptions import UnsupportedUse

if TYPE_CHECKING:
    from ..conftest import Commands

EDGES = [
    Edge(source="shop", target="auth", kind="calls", name="auth.check", count=12_345),
    Edge(source="shop", target='a"b\x1b', kind="listens", name="auth.event", count=0),
]


def test_tree_has_a_line_for_each_service_and_use() -> None:
    """Each service has a line, and below it one for each use; control characters are written out."""
    assert tree(["auth", "shop"], EDGES) == [
        "auth",
        "shop",
        "├─ calls auth: auth.check (12.3k)",
        '└─ listens to a"b\\x1b: auth.event (0)',
    ]


def test_mermaid_draws_events_dashed_and_escapes_quotes() -> None:
    """Events are dashed arrows from publisher to listener; quotes are escaped."""
    lines = mermaid(["auth", "shop"], EDGES)
    assert lines[0] == "flowchart LR"
    assert '    s0["a#quot;b\\x1b"]' in lines
    assert lines[-2:] == ['    s2 -->|"auth.check (12.3k)"| s1', '    s0 -.->|"auth.event (0)"| s2']


def test_dot_draws_what_mermaid_does() -> None:
    """The same for Graphviz."""
    lines = dot(["auth", "shop"], EDGES)
    assert (lines[0], lines[-1]) == ("digraph lightbus {", "}")
    assert '    "shop" -> "auth" [label="auth.check (12.3k)", style=solid];' in lines
    assert '    "a\\"b\\\\x1b" -> "shop" [label="auth.event (0)", style=dashed];' in lines


def test_errors_are_counted_for_each_caller() -> None:
    """Not for other callers of the procedure, nor for this command."""
    callers = {"callers": {"web": 3, "shop": 4, "lightbus-cli": 1}, "caller_errors": {"shop": 2, "lightbus-cli": 1}}
    stats = {"procedures": [{"api": "auth", "procedure": "check", **callers}]}
    assert edges_between([peer("auth")], [{}], [stats]) == [
        Edge(source="shop", target="auth", kind="calls", name="auth.check", count=4, errors=2),
        Edge(source="web", target="auth", kind="calls", name="auth.check", count=3, errors=0),
    ]


def test_picture_is_drawn_where_graphviz_is_installed(commands: Commands, tmp_path: Path) -> None:
    """Without Graphviz the command says so."""
    commands.services()
    program = tmp_path / "bin" / "dot"
    program.parent.mkdir()
    missing = commands.run("graph", "--picture", f"{tmp_path}/bus.svg", code=2, env={"PATH": str(program.parent)})
    assert "Graphviz is not installed" in missing.stderr
    program.write_text('#!/bin/sh\n/bin/cat > "$3"\n')
    program.chmod(0o700)
    commands.run("graph", "--picture", f"{tmp_path}/bus.svg", env={"PATH": str(program.parent)})
    assert (tmp_path / "bus.svg").read_text().startswith("digraph lightbus {")


@pytest.mark.parametrize(
    ("program", "problem"),
    [("#!/bin/sh\nexec sleep 60\n", r"within 0\.1 s\. Write the graph"), ("#!/no/such/shell\n", "cannot be started")],
)
def test_graphviz_that_does_not_draw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, problem: str
) -> None:
    """One that takes too long, or cannot be started, is an error and no traceback."""
    (tmp_path / "dot").write_text(program)
    (tmp_path / "dot").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(graph, "PICTURE_SECONDS", 0.1)
    with pytest.raises(UnsupportedUse, match=problem):
        graph._draw(["digraph lightbus {", "}"], tmp_path / "bus.svg")


def test_callers_and_listeners_are_shown_with_counts(commands: Commands) -> None:
    """Callers and listeners are shown with counts, in each format; the command itself is left out."""
    commands.services()
    commands.run("call", "shop.orders.place", "username=admin")
    edges = {(each["from"], each["to"], each["kind"], each["name"]) for each in commands.json("graph")}
    assert edges == {
        ("shop", "auth", "calls", "auth.check_password"),
        ("shop", "auth", "listens", "auth.user_registered"),
    }
    assert commands.text("graph").splitlines() == [
        "auth",
        "shop",
        "├─ calls auth: auth.check_password (1)",
        "└─ listens to auth: auth.user_registered (0)",
    ]
    assert "-->" in commands.text("graph", "--format", "mermaid")
    assert commands.text("graph", "--format", "dot").startswith("digraph lightbus {")
