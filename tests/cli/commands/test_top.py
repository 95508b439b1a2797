"""`lightbus top`: the stream, and the screen, in a terminal of either width."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from lightbus.cli.support.loads import COLUMNS, GROUP_COLUMNS

if TYPE_CHECKING:
    from ..conftest import Commands


def test_json_is_a_stream_until_interrupted(commands: Commands) -> None:
    """With --json it is a stream that Ctrl-C ends silently; without a terminal the error says what to use."""
    _, shop = commands.services()
    process = commands.start("top", "--json", "-i", "0.1")
    process.wait_for_line('"service": "shop"')
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert process.stderr == ""
    shop.ask_to_end()
    shop.wait()
    commands.run("fire", "auth.user_registered", "username=ada")
    told = commands.json("top", "-i", "0.1", "--count", "1")
    assert [each["service"] for each in told if each["type"] == "worker"] == ["auth"]
    [group] = [each for each in told if each["type"] == "group"]
    assert (group["group"], group["members"], group["publishers"], group["lag"]) == ("shop-greeter", 0, 1, 1)
    assert "Use --json" in commands.run("top", code=2).stderr


@pytest.mark.parametrize("columns", [80, 140])
def test_rows_fit_and_keys_sort_and_quit(commands: Commands, columns: int) -> None:
    """Each row is one line at either width; a key sorts, and q restores the terminal."""
    commands.services()
    with commands.on_terminal(columns, "top", "-i", "0.2") as terminal:
        frame = terminal.wait_for("^shop ")
        assert all(len(line) <= columns for line in frame)
        [head] = [line for line in frame if line.startswith("SERVICE")]
        shown = [column.title for column in COLUMNS if f" {column.title} " in f" {head} "]
        needed = ["SERVICE", "CALLS/S", "P99", "ERR/S", "RUN", "QUEUE", "EV/S", "LAG"]
        assert [title for title in shown if title in needed] == needed
        assert columns == 80 or len(shown) == len(COLUMNS)
        [group] = [line for line in frame if line.startswith("GROUP ")]
        assert group.split() == [column.title for column in GROUP_COLUMNS]
        assert any(re.fullmatch(r"shop-greeter +auth +1 +1 +0", line) for line in frame)
        assert "by calls: s service, c calls" in "\n".join(frame)
        assert "q quits" in "\n".join(frame)
        terminal.press("s")
        terminal.wait_for("by service: ")
        terminal.press("/uth\r")
        assert not any(line.startswith("shop ") for line in terminal.wait_for("only 'uth'"))
        terminal.press("r")
        terminal.wait_for("^PROCEDURE ")
        terminal.press("q")
        assert terminal.wait() == 0
