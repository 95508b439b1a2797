"""Clocks that are wrong by years, or corrected: no event is lost, and no old event is delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import Process, Processes, wait_until

YEAR = 365 * 86_400

NEWS = """
import os, time
real, before = time.time, float(os.environ.get("MOVED_BY", "0"))
moved = [before]
time.time = lambda: real() + moved[0]
import lightbus

bus = lightbus.create(service_name="news")

class NewsApi(lightbus.Api):
    printed = lightbus.Event([lightbus.Parameter("number", int)])

    class Meta:
        name = "news"

    def move(self, seconds: float) -> None:
        moved[0] = seconds

    def print(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            bus.news.printed.fire(number=number)

bus.client.register_api(NewsApi())
"""

READER = """
import os
import lightbus

bus = lightbus.create(service_name=os.environ["READER"])

@bus.client.on_start()
def on_start():
    bus.news.printed.listen(read, listener_name="read")

def read(event_message, number):
    print("read", number, flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with the services' modules."""
    (tmp_path / "news.py").write_text(NEWS)
    (tmp_path / "reader.py").write_text(READER)
    return tmp_path


def read(reader: Process) -> list[int]:
    """Return the events that a reader has printed."""
    return sorted({int(line.split()[1]) for line in reader.stdout.splitlines() if line.startswith("read ")})


@pytest.mark.long
@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_that_is_moved_by_years(processes: Processes, place: Path, years: int) -> None:
    """
    A group that is away gets all events fired in the meantime, by any clock; a new one gets no old events.

    The publisher's clock is moved while it runs, and corrected between its runs.
    """

    def publisher(moved: float) -> Process:
        started = processes.worker("news", cwd=place, env={"MOVED_BY": str(moved)})
        started.wait_for_line("Ready", 20)
        return started

    def reader(name: str) -> Process:
        started = processes.worker("reader", cwd=place, env={"READER": name})
        started.wait_for_line("Events of news .* arrive", 20)
        return started

    def call(code: str) -> None:
        code = f"import lightbus; bus = lightbus.create(service_name='caller'); {code}"
        assert processes.python("-c", code, cwd=place).wait(60) == 0

    news = publisher(0.0)
    first = reader("first")
    call("bus.news.print(first=0, count=20)")
    wait_until(lambda: read(first) == list(range(20)), 20.0)
    first.ask_to_end()
    assert first.wait(60) == 0
    call(f"bus.news.move(seconds={years * YEAR}); bus.news.print(first=20, count=30)")
    news.ask_to_end()
    assert news.wait(60) == 0
    news = publisher(-years * YEAR)
    call("bus.news.print(first=50, count=20)")
    news.ask_to_end()
    assert news.wait(60) == 0
    publisher(0.0)
    new, again = reader("second"), reader("first")
    wait_until(lambda: read(again) == list(range(20, 70)), 20.0)
    call("bus.news.print(first=70, count=5)")
    wait_until(lambda: read(again) == list(range(20, 75)) and read(new) == list(range(70, 75)), 20.0)
