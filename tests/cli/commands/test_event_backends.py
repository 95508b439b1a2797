"""Commands about events in a JetStream: the same output and effects as with journals."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import wait_until
from helpers.nats_servers import NatsServer

if TYPE_CHECKING:
    from ..conftest import Commands


@pytest.fixture(autouse=True)
def nats_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NatsServer]:
    """Use a server for the events of all APIs."""
    with NatsServer() as server:
        settings = {"apis": {"default": {"events": {"backend": "jetstream", "timeout": 1.0}}}}
        path = tmp_path / "lightbus.json"
        path.write_text(json.dumps(settings))
        monkeypatch.setenv("LIGHTBUS_CONFIG", str(path))
        monkeypatch.setenv("LIGHTBUS_NATS_SERVERS", server.url)
        yield server


def test_groups_and_dead_letters(commands: Commands) -> None:
    """A group is shown with members, lag and dead letters, which can be retried and dropped."""
    _, shop = commands.services()
    commands.listening("mail")
    wait_until(lambda: len(commands.look("groups", "list")) == 2, 20)
    commands.run("fire", "auth.user_registered", "username=sally")
    [dead] = wait_until(lambda: commands.look("dead", "list"), 20)
    assert (dead["group"], dead["kwargs"]["username"], dead["error"]) == (
        "mail-fails", "sally", "ValueError: no sally here",
    )  # fmt: skip
    assert "is delivered again to mail-fails" in commands.text("dead", "retry", dead["native_id"])
    [again] = wait_until(lambda: commands.look("dead", "list"), 20)
    assert (again["id"], again["native_id"] != dead["native_id"]) == (dead["id"], True)
    assert commands.json("dead", "drop", "all")[0]["done"] is True
    shop.ask_to_end()
    shop.wait()
    assert shop.stdout.count("welcome sally") == 1
    commands.run("fire", "auth.user_registered", "username=ada")
    [behind] = commands.json("lag", "shop-greeter", code=1)
    assert (behind["lag"], behind["members"]) == (1, 0)
    assert "shop-greeter of auth is forgotten" in commands.text("groups", "remove", "shop-greeter")
    assert [group["name"] for group in commands.json("groups", "list")] == ["mail-fails"]


def test_events_are_found_and_followed(commands: Commands) -> None:
    """By `inspect`, by place and by arguments, and by `tail`, with acknowledgements."""
    commands.services()
    following = commands.start("tail", "--acks")
    following.wait_for_line("Following the events of auth")
    for name in ("sally", "ada"):
        commands.run("fire", "auth.user_registered", f"username={name}")
        following.wait_for_line(f"user_registered .*{name}")
    wait_until(lambda: following.output.count("acked by shop-greeter") == 2, 20)
    following.signal(signal.SIGINT)
    assert following.wait(60) == 0
    sally, ada = commands.json("inspect")
    assert (sally["kwargs"]["username"], ada["publisher"]) == ("sally", sally["publisher"])
    assert commands.json("inspect", "--native-id", ada["native_id"]) == [ada]
    assert commands.json("inspect", "--json-path", "username=ada") == [ada]
    assert commands.json("inspect", "--api", "shop*") == []
    [kept] = commands.json("tail", "--since", sally["id"], "--count", "1")
    assert kept["id"] == ada["id"]


def test_rates_and_loads(commands: Commands) -> None:
    """Published events are counted, and the groups are shown beside the workers."""
    commands.services()
    commands.run("fire", "auth.user_registered", "username=sally")
    [rate] = commands.json("rate", "--count", "1", "--interval", "0.1")
    assert (rate["api"], rate["event"], rate["publishers"]) == ("auth", "user_registered", 1)
    told = commands.json("top", "--count", "1")
    assert [each["group"] for each in told if each["type"] == "group"] == ["shop-greeter"]


def test_doctor_reports_waiting_events(commands: Commands, nats_server: NatsServer) -> None:
    """While the server is unreachable, and no more once they were handed over."""
    commands.services()
    nats_server.kill()
    commands.run("fire", "auth.user_registered", "username=sally")
    commands.run("fire", "auth.user_registered", "username=ada")

    def doctor_says() -> str:
        process = commands.start("doctor", "--json")
        process.wait(60)
        return process.stdout

    wait_until(lambda: "Events of auth are still waiting in the outbox" in doctor_says(), 30)
    nats_server.start()
    wait_until(lambda: len(commands.look("inspect")) == 2, 30)
