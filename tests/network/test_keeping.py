"""Events without a running publisher: they are stored where they were fired, and arrive when one starts."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from helpers import Process, Processes, wait_until

STREAM = """
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

bus = lightbus.create(service_name="reader")

@bus.client.on_start()
def on_start():
    bus.news.printed.listen(read, listener_name="read")

def read(event_message, number):
    print("read", number, event_message.deliveries, flush=True)
"""

STRANGER = """
import sys, lightbus
bus = lightbus.create(service_name="stranger")
message = bus.news.printed.fire(number=int(sys.argv[1]))
print(message.native_id or "waits", flush=True)
"""

FIRES = "import sys; from news import bus; print(bus.news.printed.fire(number=int(sys.argv[1])).native_id)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with the services' modules."""
    for name, code in (("news", STREAM), ("reader", READER), ("stranger", STRANGER)):
        (tmp_path / f"{name}.py").write_text(code)
    return tmp_path


def worker(processes: Processes, place: Path, name: str) -> Process:
    """Start a worker and return when it is ready."""
    started = processes.worker(name, cwd=place)
    started.wait_for_line("Ready")
    return started


WAITS = re.compile(r"Nobody publishes news at the moment. 1 events wait on this host, in .*outbox\.sqlite: once there")


@pytest.mark.parametrize("service", ["news", "cron"])
def test_a_script_without_a_worker(processes: Processes, place: Path, service: str) -> None:
    """Whatever its service is, its event, whose place it logs, reaches the next publisher of its API."""
    publisher, reader = worker(processes, place, "news"), worker(processes, place, "reader")
    reader.wait_for_line("Events of news .* arrive")
    publisher.ask_to_end()
    assert publisher.wait(60) == 0
    (place / "cron.py").write_text(STREAM.replace('service_name="news"', f'service_name="{service}"'))
    script = processes.python("-c", FIRES.replace("from news", "from cron"), "1", cwd=place)
    assert script.wait(60) == 0
    assert WAITS.search(script.stderr)
    worker(processes, place, "news")
    reader.wait_for_line("^read 1 1$", 20)


def test_a_script_that_does_not_find_the_worker(processes: Processes, place: Path) -> None:
    """Its stored event is handed off to the worker that it did not find because that was stopped."""
    news = worker(processes, place, "news")
    reader = worker(processes, place, "reader")
    reader.wait_for_line("Events of news .* arrive")
    news.signal(signal.SIGSTOP)
    script = processes.python("-c", FIRES, "1", cwd=place, env={"LIGHTBUS_CONFIG": _blind(place)})
    assert script.wait(60) == 0
    news.signal(signal.SIGCONT)
    assert WAITS.search(script.stderr)
    reader.wait_for_line("^read 1 1$", 20)


WEB = """
import sys, time
from news import bus
if sys.argv[1] == "fire":
    print(bus.news.printed.fire(number=1).id)
    while bus.client.engine.publisher is None and len(sys.argv) > 2:
        time.sleep(0.01)
    print("fired", flush=True)
else:
    try:
        bus.other.thing()
    except Exception as error:
        print("used", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("more", [(), ("and publish",)], ids=["kept", "published"])
def test_a_web_process_that_was_killed(processes: Processes, place: Path, more: tuple[str, ...]) -> None:
    """After a restart it publishes its remaining events at the first use of the bus, although it fires nothing."""
    (place / "web.py").write_text(WEB)
    killed = processes.python("web.py", "fire", *more, cwd=place)
    killed.wait_for_line("fired")
    killed.kill()
    (place / "reader.py").write_text(READER.replace('"read")', '"read", bus_options={"since": "0"})'))
    reader = worker(processes, place, "reader")
    processes.python("web.py", "use", cwd=place).wait_for_line("used")
    reader.wait_for_line("^read 1 ", 20)


def _blind(place: Path) -> str:
    """Return settings under which a process finds no peers."""
    path = place / "blind.yaml"
    path.write_text("discovery: {mdns: false, wait: 0}")
    return str(path)


def test_known_event_without_publisher_waits_in_the_outbox(processes: Processes, place: Path) -> None:
    """A script of another service stores a known event in the outbox and exits 0; an unknown one is refused."""
    refused = processes.python("stranger.py", "0", cwd=place)
    assert refused.wait(60) == 1
    assert "UnknownApi: No peer advertises the API 'news'" in refused.stderr

    publisher, reader = worker(processes, place, "news"), worker(processes, place, "reader")
    reader.wait_for_line("Events of news .* arrive")
    known = processes.python("stranger.py", "1", cwd=place)
    assert known.wait(60) == 0
    reader.wait_for_line("^read 1 1$", 20)
    publisher.ask_to_end()
    assert publisher.wait(60) == 0

    waiting = [processes.python("stranger.py", str(number), cwd=place) for number in (2, 3)]
    for script in waiting:
        assert (script.wait(60), script.stdout) == (0, "waits\n")
        assert "Nobody publishes news.printed at the moment. The event" in script.stderr
    worker(processes, place, "news")
    wait_until(lambda: {"read 2 1", "read 3 1"} <= set(reader.stdout.splitlines()), 20)
    assert len(reader.stdout.splitlines()) == 3


def test_an_api_that_changed(processes: Processes, place: Path) -> None:
    """Refused events are stored and reported, accepted ones arrive, and all of them once they are accepted."""
    publisher, reader = worker(processes, place, "news"), worker(processes, place, "reader")
    reader.wait_for_line("Events of news .* arrive")
    known = processes.python("stranger.py", "1", cwd=place)
    assert known.wait(60) == 0
    reader.wait_for_line("^read 1 1$", 20)
    publisher.ask_to_end()
    assert publisher.wait(60) == 0
    waiting = processes.python("stranger.py", "2", cwd=place)
    assert waiting.wait(60) == 0

    changes = {
        "needs the argument 'page'": ("int)", 'int), Parameter("page", int)'),
        "has no event 'printed'": ("printed", "sold"),
    }
    for why, change in changes.items():
        (place / "news.py").write_text(STREAM.replace(*change))
        publisher = worker(processes, place, "news")
        pattern = re.compile(f"The event .* of news.printed was refused by its publisher.*{why}")
        wait_until(lambda: pattern.search(publisher.stderr + reader.stderr), 20)  # noqa: B023
        publisher.ask_to_end()
        assert publisher.wait(60) == 0
    (place / "news.py").write_text(STREAM)
    worker(processes, place, "news")
    reader.wait_for_line("^read 2 1$", 20)
