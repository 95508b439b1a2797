"""`lightbus rate`: the computation from two readings, and the command, into a pipe and on a terminal."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest

from lightbus.cli.commands.rate import COLUMNS, Counted, Rate, rates

if TYPE_CHECKING:
    from ..conftest import Commands

SEEN, SENT = ("auth", "seen"), ("mail", "sent")


def counted(at: float, seen: tuple[int, int], sent: tuple[int, int] = (0, 0), uptime: float = 100.0) -> Counted:
    """Return a publisher's counters."""
    return Counted(at=at, uptime=uptime, events={SEEN: seen, SENT: sent})


def test_rates_are_counted_between_two_readings() -> None:
    """Rates are differences between two readings, over all publishers; the highest comes first."""
    before = {"a": counted(10.0, (5, 500), (1, 10)), "b": counted(10.0, (0, 0))}
    now = {"a": counted(12.0, (9, 900), (21, 30)), "b": counted(12.0, (2, 100))}
    sent, seen = rates(before, now)
    assert sent == Rate(api="mail", event="sent", events=10.0, bytes=10.0, published=20, publishers=2)
    assert seen == Rate(api="auth", event="seen", events=3.0, bytes=250.0, published=6, publishers=2)
    assert seen.row() == ["auth.seen", "3", "250 B", "6", "2"]
    assert len(seen.row()) == len(COLUMNS)


def test_new_worker_counts_since_its_start() -> None:
    """A worker that was not there at the last reading has published all since its start; one that left nothing."""
    [rate, _] = rates({"gone": counted(10.0, (9, 9))}, {"new": counted(12.0, (6, 60), uptime=2.0)})
    assert (rate.events, rate.bytes, rate.published) == (3.0, 30.0, 6)


def test_events_are_counted_until_interrupted(commands: Commands) -> None:
    """Matching events are counted, in both formats; Ctrl-C ends it silently."""
    commands.services()
    measuring = commands.start("rate", "auth.*", "--json", "-i", "0.1")
    other = commands.start("rate", "shop.*", "--json", "-i", "0.1")
    text = commands.start("rate", "-i", "0.1")
    text.wait_for_line("0 events/s, 0 B/s")
    commands.run("fire", "auth.user_registered", "username=sally")
    measuring.wait_for_line('"published": 1,')
    text.wait_for_line(r"^auth\.user_registered +\d+(\.\d)? +\d+(\.\d+ k| )B +1 +1$")
    for process in (measuring, other, text):
        process.signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr == ""
    assert other.stdout == ""
    readings = [json.loads(line) for line in measuring.stdout.splitlines()]
    [one] = [each for each in readings if each["published"]]
    assert one["bytes"] / one["events"] > len("sally")  # all bytes of one event
    [idle] = commands.json("rate", "--count", "1", "-i", "0.1")
    assert (idle["api"], idle["event"], idle["events"], idle["published"]) == ("auth", "user_registered", 0.0, 0)


@pytest.mark.parametrize("columns", [80, 140])
def test_terminal_shows_one_changing_table(commands: Commands, columns: int) -> None:
    """On a terminal it is one table that changes, each row on one line."""
    commands.services()
    commands.run("fire", "auth.user_registered", "username=sally")
    with commands.on_terminal(columns, "rate", "-i", "0.2") as terminal:
        terminal.wait_for_line(r"^auth\.user_registered +0 +0 B +0 +1$")
        head = terminal.wait_for_line("^EVENT ")
        assert re.split(r"  +", head) == [column.title for column in COLUMNS]
        assert all(len(line) <= columns for line in terminal.lines)
        terminal.interrupt()
        assert terminal.wait() == 0
