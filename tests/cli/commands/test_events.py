"""`lightbus events migrate`: an API moves to a JetStream, and back, and each group gets its unhandled events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import Door, wait_until
from helpers.nats_servers import NatsServer
from lightbus import Api, BusPath, Event, EventBackendError, EventMessage, OnError, Parameter
from lightbus.cli import main
from lightbus.testing import MemoryBus


class ShopApi(Api):
    sold = Event(parameters=[Parameter("item", str), Parameter("number", int)], key="item")
    opened = Event(parameters=["number"])

    class Meta:
        name = "shop"


JETSTREAM = {"timeout": 1.0, "member_timeout": 2.0}
"""What its settings say besides its servers, which are in the environment."""


class Town:
    """Processes whose events are kept here or there, and the command."""

    def __init__(self, hub: MemoryBus, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
        self._hub = hub
        self.options = options
        self._capsys = capsys
        self._running: list[BusPath] = []
        self.received: dict[str, list[int]] = {}

    def open(self, backend: str, **groups: Callable[[int], Any] | None) -> BusPath:
        """Start a publisher and a listener for each group, with the events in that backend; return the publisher."""
        events = {"backend": backend, **(JETSTREAM if backend == "jetstream" else {})}
        settings = {"apis": {"default": {"events": events}}}
        shop = self._hub.create(settings, service_name="shop")
        shop.client.register_api(ShopApi())
        started = [shop, *(self._listener(settings, *each) for each in groups.items())]
        self._hub.start(*started)
        self._running += started
        return shop

    def _listener(self, settings: dict[str, Any], group: str, act: Callable[[int], Any] | None) -> BusPath:
        bus = self._hub.create(settings, service_name=group)
        received = self.received.setdefault(group, [])

        def handle(message: EventMessage) -> None:
            received.append(message.kwargs["number"])
            if act is not None:
                act(message.kwargs["number"])

        options = {"since": "0"} if group == "late" else None
        retry = OnError.ACKNOWLEDGE_AND_LOG if act is None else OnError.RETRY
        bus.shop.sold.listen(handle, listener_name="desk", on_error=retry, max_deliveries=1, bus_options=options)
        return bus

    def leave(self, *services: str) -> None:
        """Stop the processes of these services, or all."""
        for bus in self._running[::-1]:  # listeners first: what they have handled is heard of
            if not services or bus.client.config.service_name in services:
                bus.client.close()
                self._running.remove(bus)

    def given(self, group: str) -> list[int]:
        """Return the events that a group got since the last call."""
        given, self.received[group][:] = list(self.received[group]), []
        return given

    def ask(self, bus: BusPath, procedure: str, **arguments: Any) -> Any:
        """Return the publisher's report on its stored events."""
        peer = {"peer": bus.client.engine.identity.instance}
        return bus.client.call_rpc_blocking("internal.events", procedure, arguments, peer)

    def migrate(self, to: str, *more: str, code: int = 0) -> Any:
        """Run the command; return its output, or its error."""
        with pytest.raises(SystemExit) as end:
            main(args=["events", "migrate", "shop", "--to", to, "--json", *self.options, *more])
        out, error = self._capsys.readouterr()
        assert end.value.code == code, error
        return json.loads(out) if code == 0 else error


@pytest.fixture
def town(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Town]:
    """Return an empty town."""
    with NatsServer() as server, MemoryBus(journal=True) as hub:
        monkeypatch.setenv("LIGHTBUS_NATS_SERVERS", server.url)
        monkeypatch.setenv("LIGHTBUS_DATA_DIR", str(hub._directory))
        monkeypatch.setenv("LIGHTBUS_BUS", hub._name)
        settings = {"apis": {"default": {"events": {"backend": "jetstream", **JETSTREAM}}}}
        (tmp_path / "lightbus.json").write_text(json.dumps(settings))
        yield Town(hub, capsys, ["--wait", "0", "--config", str(tmp_path / "lightbus.json")])


def fire(door: Door, bus: BusPath, *numbers: int) -> None:
    """Fire events of two keys, one after the other."""
    for number in numbers:
        door.fire(bus.shop.sold, item="tea" if number % 2 else "ice", number=number)


def refuse_two(number: int) -> None:
    """Fail on one event, so that it is a dead letter."""
    if number == 2:
        raise ValueError("out of paper")


def test_api_moves_there_and_back(town: Town, door: Door) -> None:
    """Groups continue where they were, dead letters are moved, and a group can read past events."""
    places = {"journal": "jetstream", "jetstream": "journal"}
    shop = town.open("journal", mail=None, stock=refuse_two)
    fire(door, shop, *range(6))
    wait_until(lambda: len(town.received["mail"]) == len(town.received["stock"]) == 6)
    for number, (here, there) in enumerate(places.items(), 1):
        town.leave("stock")
        fire(door, shop, 10 * number, 10 * number + 1)
        wait_until(lambda number=number: 10 * number + 1 in town.received["mail"])
        town.leave()
        assert town.given("mail")[-2:] == [10 * number, 10 * number + 1]
        town.given("stock")
        told = town.migrate(there, "--service", "shop")
        assert (told["dead"], told["groups"]) == (1, 2), told
        assert town.migrate(there, "--service", "shop")["events"] == 0
        shop = town.open(there, mail=None, stock=refuse_two)
        wait_until(lambda: len(town.received["stock"]) == 2)
        fire(door, shop, 10 * number + 2)
        wait_until(lambda: len(town.received["stock"]) == 3 and town.received["mail"])
        assert sorted(town.given("stock")) == [10 * number, 10 * number + 1, 10 * number + 2]
        assert town.given("mail") == [10 * number + 2]
        [dead] = town.ask(shop, "dead")
        assert (dead["group"], dead["kwargs"]["number"], dead["error"]) == ("stock-desk", 2, "ValueError: out of paper")
        found = {each["kwargs"]["number"] for each in town.ask(shop, "history", api="shop", event="sold")}
        assert found >= {*range(6), 10, 11, 12}, here


def test_later_group_may_get_earlier_events(town: Town) -> None:
    """With `since`, it gets moved past events; it gets none of later moves."""
    shop = town.open("journal", mail=None)
    for number in range(3):
        shop.shop.sold.fire(item="tea", number=number)
    wait_until(lambda: len(town.received["mail"]) == 3)
    town.leave()
    town.migrate("jetstream")
    shop = town.open("jetstream", late=None, mail=None)
    wait_until(lambda: town.received["late"] == [0, 1, 2])
    assert town.ask(shop, "lag", api="shop", group="late-desk") == 0
    shop.shop.sold.fire(item="tea", number=3)
    wait_until(lambda: len(town.received["late"]) == 4 and len(town.received["mail"]) == 4)
    assert town.received == {"late": [0, 1, 2, 3], "mail": [0, 1, 2, 3]}


def test_events_in_use_are_left(town: Town) -> None:
    """If a worker uses the journal, or listens at the JetStream, the command names it, and changes nothing."""
    shop = town.open("journal", mail=None)
    shop.shop.sold.fire(item="tea", number=1)
    error = town.migrate("jetstream", code=3)
    assert "in use" in error
    assert ".sqlite" in error
    town.leave()
    assert town.migrate("jetstream")["events"] == 1
    town.open("jetstream", mail=None)
    assert "listen to shop" in town.migrate("journal", code=3)


def test_whose_journal_it_is_has_to_be_clear(town: Town) -> None:
    """If no journal here has had the API, its service must be named."""
    assert "--service" in town.migrate("journal", code=2)
    told = town.migrate("journal", "--service", "shop")
    assert (told["events"], told["groups"]) == (0, 0)


def test_server_that_is_away_is_named(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do then."""
    shop = town.open("journal")
    shop.shop.sold.fire(item="tea", number=1)
    town.leave()
    monkeypatch.setenv("LIGHTBUS_NATS_SERVERS", "nats://127.0.0.1:9")
    error = town.migrate("jetstream", code=EventBackendError.exit_code)
    assert "127.0.0.1:9" in error
    assert "Run the command again" in error


def test_text_output(town: Town, capsys: pytest.CaptureFixture[str]) -> None:
    """The text output says how much was moved where."""
    shop = town.open("journal", mail=None)
    shop.shop.sold.fire(item="tea", number=1)
    town.leave()
    with pytest.raises(SystemExit) as end:
        main(args=["events", "migrate", "shop", "--to", "jetstream", *town.options])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "1 events of shop are moved to jetstream" in said
    assert "1 groups keep their positions; 0 dead letters are moved." in said
