"""`lightbus bench`, with the process that it starts, and with a running one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers.asgi import MemoryConnection, on_connection
from lightbus import Api
from lightbus.cli.commands import bench
from lightbus.cli.support.bench_responder import API
from lightbus.config import load_config
from lightbus.events.publishing.journal_set import directory_of
from lightbus.testing import memory_bus

if TYPE_CHECKING:
    from ..conftest import Commands


def test_each_call_is_counted_once_and_the_responder_ends(commands: Commands) -> None:
    """Each call is counted once, in the histogram too; the started process is gone afterwards."""
    [told] = commands.json("bench", "calls", "--count", "60", "--concurrency", "3", "--size", "10")
    assert (told["type"], told["count"], told["failed"]) == ("calls", 60, 0)
    assert sum(bar["count"] for bar in told["histogram"]) == 60
    assert 0 < told["min"] <= told["p50"] <= told["p99"] <= told["max"]
    assert "No peer is on the bus" in commands.run("peers", "--wait", "0.2", code=3).stderr


def test_events_with_a_running_responder(commands: Commands) -> None:
    """All are handled; they are stored beside the real events, and removed afterwards."""
    other = commands.start("bench", "serve", "--name", "far-away")
    other.wait_for_line("Ready")
    text = commands.text("bench", "events", "--count", "50", "--peer", "far-away")
    assert "50 handled, " in text
    assert "50 events in " in text
    assert "#" in text
    assert [*directory_of(load_config(), "any").parent.glob(".bench-*")] == []
    wrong = commands.run("bench", "calls", "--peer", "nobody", code=3)
    assert "None of the peers that serve it is called 'nobody'" in wrong.stderr
    other.ask_to_end()
    assert other.wait(20) == 0


def test_events_where_none_can_be_kept(commands: Commands, tmp_path: Path) -> None:
    """What cannot be written to is named, with what to set."""
    (tmp_path / "file").touch()
    done = commands.run("bench", "events", code=2, env={"LIGHTBUS_DATA_DIR": str(tmp_path / "file")})
    assert f"Events cannot be kept in {tmp_path / 'file'}" in done.stderr
    assert "Set LIGHTBUS_DATA_DIR" in done.stderr
    assert "Traceback" not in done.stderr


class LosesEvents(Api):
    """A responder that has handled the first event only; who asks about others is interrupted."""

    class Meta:
        name = API
        internal = True

    def __init__(self) -> None:
        self.asked = 0

    async def handled(self, run: str) -> int:
        if run == "first":
            return 1
        self.asked += 1
        os.kill(os.getpid(), signal.SIGINT)
        return 0


def test_ctrl_c_ends_the_wait_for_events(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the responder does not handle them: the command does not go on for a minute."""
    monkeypatch.setattr(bench, "SETTLE_SECONDS", 2.0)
    with memory_bus() as hub:
        loses = LosesEvents()
        worker = hub.create(service_name="loses")
        worker.client.register_api(loses)
        hub.start(worker)
        load = bench._BenchLoad(count=3, concurrency=1, size=0)
        code = asyncio.run(on_connection(MemoryConnection(hub), lambda bus: bench._events(bus, load, "loses")))
    told = json.loads(capsys.readouterr().out)
    assert (code, told["count"], told["handled"]) == (1, 3, 0)
    assert loses.asked == 1
