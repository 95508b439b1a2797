"""Events whose own service has no process left: any worker of the bus on the host delivers them."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import Process, Processes

NEWS = """
import sys
import lightbus
from lightbus import Api, Event, Parameter

bus = lightbus.create(service_name="news")

class NewsApi(Api):
    printed = Event([Parameter("number", int)])

    class Meta:
        name = "news"

bus.client.register_api(NewsApi())
"""

READER = """
import lightbus
from lightbus.events.publishing import orphaned_journals

orphaned_journals.FIRST_LOOK = 2.0  # nothing is restarted

bus = lightbus.create(service_name="reader")

@bus.client.on_start()
def on_start():
    bus.news.printed.listen(read, listener_name="read")

def read(event_message, number):
    print("read", number, event_message.deliveries, flush=True)
"""

IDLE = """
import lightbus
from lightbus.events.publishing import orphaned_journals

orphaned_journals.FIRST_LOOK = 2.0  # nothing is restarted
bus = lightbus.create(service_name="idle")

class IdleApi(lightbus.Api):
    def rest(self) -> None: ...

    class Meta:
        name = "idle"

bus.client.register_api(IdleApi())
"""

FIRES = "import sys; from news import bus; [bus.news.printed.fire(number=int(number)) for number in sys.argv[1:]]"

LIVES_ON = """
import time
from news import bus
bus.news.printed.fire(number=1)
while bus.client.engine.publisher is None:
    time.sleep(0.01)
print("publishes", flush=True)
bus.news.printed.fire(number=2)
print("fired", flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with the services' modules."""
    for name, code in (("news", NEWS), ("reader", READER), ("idle", IDLE)):
        (tmp_path / f"{name}.py").write_text(code)
    return tmp_path


def worker(processes: Processes, place: Path, name: str) -> Process:
    """Start a worker and return when it is ready."""
    started = processes.worker(name, cwd=place)
    started.wait_for_line("Ready")
    return started


def fire(processes: Processes, place: Path, *numbers: int) -> None:
    """Let a job fire events and end."""
    assert processes.python("-c", FIRES, *map(str, numbers), cwd=place).wait(60) == 0


def read(reader: Process) -> list[str]:
    """Return the events that a reader has printed, in order."""
    return [line for line in reader.stdout.splitlines() if line.startswith("read ")]


@pytest.mark.long
def test_a_job_among_workers_of_other_services(processes: Processes, place: Path) -> None:
    """It registers its API, fires and ends: its events arrive, although no other process knows the API; and again."""
    reader = worker(processes, place, "reader")
    fire(processes, place, 1, 2, 3)
    reader.wait_for_line("^read 3 1$", 30)
    fire(processes, place, 4)
    reader.wait_for_line("^read 4 1$", 30)
    # Its own worker fires on beside what is kept elsewhere; what was handled is not given again.
    worker(processes, place, "news")
    fire(processes, place, 5)
    reader.wait_for_line("^read 5 1$", 30)
    assert sorted(read(reader)) == [f"read {number} 1" for number in range(1, 6)]


@pytest.mark.long
def test_a_journal_of_a_killed_process(processes: Processes, place: Path) -> None:
    """Events that it published itself, without a listener, are served by a worker of another service."""
    job = processes.python("-c", LIVES_ON, cwd=place)
    job.wait_for_line("fired", 20)
    job.kill()
    reader = worker(processes, place, "reader")
    reader.wait_for_line("Serving the journal .*news.*, whose service has no worker on this host", 30)
    fire(processes, place, 3)
    reader.wait_for_line("^read 3 1$", 30)


@pytest.mark.long
def test_groups_of_the_own_service_get_the_events(processes: Processes, place: Path) -> None:
    """A group that is away gets the events of the meantime, from any worker; then its own service continues."""
    news, reader = worker(processes, place, "news"), worker(processes, place, "reader")
    reader.wait_for_line("Events of news .* arrive")
    for ending in (reader, news):
        ending.ask_to_end()
        assert ending.wait(60) == 0
    idle = worker(processes, place, "idle")
    fire(processes, place, 1, 2)
    idle.wait_for_line("2 events of news that waited in the outbox are published here", 30)
    reader = worker(processes, place, "reader")
    reader.wait_for_line("^read 2 ", 30)
    worker(processes, place, "news")
    idle.wait_for_line("The journal .* is left to its own service", 30)
    fire(processes, place, 3)
    reader.wait_for_line("^read 3 1$", 30)
    assert [line.split()[1] for line in read(reader)] == ["1", "2", "3"]
