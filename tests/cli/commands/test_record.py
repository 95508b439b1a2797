"""`lightbus record` and `lightbus replay`, against real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.asgi import MemoryConnection, on_connection
from lightbus import Api, Event, Parameter
from lightbus.cli.commands.record import _record
from lightbus.cli.support import publishers
from lightbus.exceptions import LightbusTimeout
from lightbus.testing import memory_bus

if TYPE_CHECKING:
    from ..conftest import Commands


def users(path: Path) -> list[str]:
    """Return the names of the users in a file of events."""
    return [json.loads(line)["kwargs"]["username"] for line in path.read_text().splitlines()[1:]]


def test_recorded_events_are_fired_again(commands: Commands, tmp_path: Path) -> None:
    """On another bus listeners get the same events, with the same values."""
    commands.serve("auth").wait_for_line("Ready")
    for name in ("sally", "harry"):
        commands.run("fire", "auth.user_registered", f"username={name}")
    file = tmp_path / "events.jsonl"
    [told] = commands.json("record", "--kept", "--out", str(file))
    assert told == {"file": str(file), "events": 2}
    assert users(file) == ["sally", "harry"]
    there = commands.run("record", "--kept", "--out", str(file), code=2)
    assert "exists already. Name another --out, or remove it." in " ".join(there.stderr.split())

    same = commands.run("replay", str(file), code=2)
    assert "whose listeners would handle them a second time" in " ".join(same.stderr.split())
    test_bus = {"LIGHTBUS_BUS": f"{os.environ['LIGHTBUS_BUS']}-test"}
    nobody = commands.run("replay", str(file), "--wait", "0.2", code=3, env=test_bus)
    assert "No peer is on the bus" in nobody.stderr
    commands.serve("auth", where="test", env=test_bus).wait_for_line("Ready")
    assert "1 of 1 events fired in" in commands.run("replay", str(file), "--skip", "1", env=test_bus).stdout
    [told] = commands.json("replay", str(file), "auth.user_*", "--speed", "0", "--bus-name", test_bus["LIGHTBUS_BUS"])
    assert (told["fired"], told["of"]) == (2, 2)
    second = tmp_path / "second.jsonl"
    commands.run("record", "auth.*", "--since", "0", "--count", "3", "--out", str(second), env=test_bus)
    assert users(second) == ["harry", "sally", "harry"]
    first, again = (json.loads(path.read_text().splitlines()[-1]) for path in (file, second))
    assert first["kwargs"] == again["kwargs"]
    assert first["id"] != again["id"]


def test_recording_until_interrupted(commands: Commands, tmp_path: Path) -> None:
    """Ctrl-C ends a recording with code 0."""
    commands.serve("auth").wait_for_line("Ready")
    file = tmp_path / "events.jsonl"
    recording = commands.start("record", "auth.user_*", "--out", str(file))
    recording.wait_for_line("Recording the events of auth")
    commands.run("fire", "auth.user_registered", "username=sally")
    recording.signal(signal.SIGINT)
    assert recording.wait(20) == 0, recording.report()
    assert "1 event recorded in" in recording.stdout
    assert users(file) == ["sally"]


class DeepApi(Api):
    stored = Event([Parameter("value", Any)])

    class Meta:
        name = "deep"


@pytest.mark.parametrize(("is_silent", "code"), [(False, 1), (True, 3)])
def test_an_incomplete_recording_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_silent: bool, code: int
) -> None:
    """Events that JSON cannot hold are left out, and do not end it; those of a publisher that is silent are missing."""
    value: Any = 1
    for _ in range(490):
        value = [value]
    with memory_bus() as hub:
        worker = hub.create(service_name="deep")
        worker.client.register_api(DeepApi())
        hub.start(worker)
        for each in (1, 2 if is_silent else value, 3):
            worker.deep.stored(value=each)

        async def silent(*args: Any) -> Any:
            raise LightbusTimeout("it does not answer")

        if is_silent:
            monkeypatch.setattr(publishers, "_ask", silent)
        file = tmp_path / "events.jsonl"
        record = on_connection(MemoryConnection(hub), lambda bus: _record(bus, "*", file, "0", None, only_kept=True))
        assert asyncio.run(record) == code
    values = [json.loads(line)["kwargs"]["value"] for line in file.read_text().splitlines()[1:]]
    assert values == ([1, 2, 3] if is_silent else [1, 3])
    assert json.loads(capsys.readouterr().out)["events"] == len(values)
