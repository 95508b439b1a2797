"""The contract of event storage: the journals and every backend pass it, from sync and from async code."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pytest

from helpers import Door, wait_until
from helpers.own import examine
from lightbus import Api, BatchFailed, BusPath, Event, EventMessage, OnError, Parameter
from lightbus.events.listening import delivery
from lightbus.testing import MemoryBus

Settings: TypeAlias = dict[str, Any]


class ShopApi(Api):
    sold = Event(parameters=[Parameter("item", str), Parameter("number", int)], key="item")
    opened = Event(parameters=["number"])
    seen = Event(parameters=["number"], delivery="best_effort")

    class Meta:
        name = "shop"


class Received:
    """What a listener was given."""

    def __init__(self) -> None:
        self.messages: list[EventMessage] = []
        self._lock = threading.Lock()

    def __call__(self, message: EventMessage) -> None:
        with self._lock:
            self.messages.append(message)

    @property
    def numbers(self) -> list[int]:
        """The argument `number` of each."""
        return [message.kwargs["number"] for message in self.messages]

    @property
    def deliveries(self) -> list[int]:
        """Which delivery each was."""
        return [message.deliveries for message in self.messages]


class Failing(Received):
    """A listener that fails on some deliveries."""

    def __init__(self, fails: Callable[[EventMessage], bool]) -> None:
        super().__init__()
        self.fails = fails

    def __call__(self, message: EventMessage) -> None:
        super().__call__(message)
        if self.fails(message):
            raise ValueError("out of paper")


class Town:
    """Processes on a bus whose events are kept by one backend."""

    def __init__(self, hub: MemoryBus, settings: Settings) -> None:
        self._hub = hub
        self._settings = settings
        self.shop = self.publisher()

    def bus(self, service: str) -> BusPath:
        """Return a process that has not started yet."""
        return self._hub.create(self._settings, service_name=service)

    def publisher(self) -> BusPath:
        """Return a process that publishes, and runs."""
        bus = self.bus("shop")
        bus.client.register_api(ShopApi())
        self.start(bus)
        return bus

    def start(self, *buses: BusPath) -> None:
        """Start workers, and return when they listen."""
        self._hub.start(*buses)

    def listen(self, service: str, function: Any, event: str = "sold", **options: Any) -> BusPath:
        """Return a process that listens, and runs."""
        bus = self.bus(service)
        getattr(bus.shop, event).listen(function, **{"listener_name": "desk", **options})
        self.start(bus)
        return bus

    def ask(self, procedure: str, **arguments: Any) -> Any:
        """Return the publisher's answer about the kept events."""
        client = self.shop.client
        peer = {"peer": client.engine.identity.instance}
        return client.call_rpc_blocking("internal.events", procedure, arguments, peer)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests for all backends, or the named one."""
    examine(metafunc, "event_settings", ["journal", "memory", "jetstream"])


@pytest.fixture
def town(event_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    """Return a bus with a publisher; failed events are tried again at once."""
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)
    with MemoryBus(journal=event_settings["backend"] == "journal") as hub:
        yield Town(hub, {"apis": {"default": {"events": event_settings}}})


def test_each_group_gets_an_event_once(town: Town, door: Door) -> None:
    """Each service gets each event, in one of its processes, in order of a key; with its native id."""
    mail, first, second = Received(), Received(), Received()
    town.listen("mail", mail)
    town.listen("stock", first)
    town.listen("stock", second)
    fired = [door.fire(town.shop.shop.sold, item="tea", number=number) for number in range(50)]
    wait_until(lambda: len(mail.messages) == 50 and len(first.messages) + len(second.messages) == 50)
    assert mail.numbers == list(range(50))
    assert sorted([first.numbers, second.numbers]) == [[], list(range(50))]
    assert [message.id for message in mail.messages] == [message.id for message in fired]
    assert [message.native_id for message in mail.messages] == [message.native_id for message in fired]
    assert set(mail.deliveries) == {1}


def test_keys_are_shared_by_the_members_of_a_group(town: Town) -> None:
    """Events of different keys go to all members; those of one key in order to one at a time, also as members join."""
    first, second = Received(), Received()
    items = [f"item{number}" for number in range(40)]
    numbers = itertools.count()

    def fire_each() -> None:
        for item in items:
            town.shop.shop.sold.fire(item=item, number=next(numbers))

    def second_has_some() -> bool:
        fire_each()
        return bool(second.messages)

    town.listen("stock", first)
    fire_each()
    town.listen("stock", second)
    wait_until(second_has_some, what="the second is given events, too")  # until then the first may get all events
    fired = next(numbers)
    wait_until(lambda: len(first.messages) + len(second.messages) >= fired)
    for member in (first, second):
        for item in items:
            given = [message.kwargs["number"] for message in member.messages if message.kwargs["item"] == item]
            assert given == sorted(given)
    assert first.messages
    assert Counter(first.numbers + second.numbers) == Counter(range(fired))


def test_absent_group_misses_nothing(town: Town, door: Door) -> None:
    """Events fired while no process of a group runs go to the first that joins, once."""
    before, after = Received(), Received()
    away = town.listen("mail", before)
    door.fire(town.shop.shop.opened, number=0)  # an event that this group does not listen to
    door.fire(town.shop.shop.sold, item="tea", number=1)
    wait_until(lambda: before.numbers == [1])
    away.client.close()
    for number in (2, 3):
        door.fire(town.shop.shop.sold, item="tea", number=number)
    town.listen("mail", after)
    wait_until(lambda: after.numbers == [2, 3])
    assert before.numbers == [1]


def test_unhandled_events_go_to_another_member(town: Town) -> None:
    """Events that a leaving member has not handled go to another one."""
    first, second = Received(), Received()
    leaving = town.listen("stock", first)
    town.listen("stock", second)
    for number in range(200):
        town.shop.shop.sold.fire(item=f"item{number}", number=number)
        if number == 100:
            leaving.client.close()
    wait_until(lambda: len({*first.numbers, *second.numbers}) == 200)
    assert Counter(first.numbers + second.numbers) == Counter(range(200))


def test_failed_event_is_retried_and_then_a_dead_letter(town: Town) -> None:
    """With RETRY it is delivered until it works, with its delivery count; after the maximum it is a dead letter."""
    received = Failing(lambda message: message.kwargs["number"] == 7 or message.deliveries < 3)
    town.listen("mail", received, on_error=OnError.RETRY, max_deliveries=4)
    for number in (1, 7, 2):
        town.shop.shop.sold.fire(item="tea", number=number)
    wait_until(lambda: len(received.messages) == 3 + 4 + 3)
    assert received.numbers == [1, 1, 1, 7, 7, 7, 7, 2, 2, 2]
    assert received.deliveries == [1, 2, 3, 1, 2, 3, 4, 1, 2, 3]
    [dead] = wait_until(lambda: town.ask("dead", group="mail-desk"))
    assert (dead["api"], dead["event"], dead["deliveries"], dead["kwargs"]["number"]) == ("shop", "sold", 4, 7)
    assert "out of paper" in dead["error"]


def test_dead_letter_is_delivered_to_its_group_again(town: Town) -> None:
    """And to no other; a dropped one is deleted."""
    mended = threading.Event()
    received, others = Failing(lambda message: not mended.is_set()), Received()
    town.listen("mail", received, on_error=OnError.RETRY, max_deliveries=1)
    town.listen("stock", others)
    for number in (1, 2):
        town.shop.shop.sold.fire(item="tea", number=number)
    dead = wait_until(lambda: len(found := town.ask("dead")) == 2 and found)
    mended.set()
    retried, dropped = dead[0]["native_id"], dead[1]["native_id"]
    assert town.ask("retry_dead", group="mail-desk", native_id=retried) is True
    assert town.ask("drop_dead", group="mail-desk", native_id=dropped) is True
    assert town.ask("drop_dead", group="mail-desk", native_id=dropped) is False
    wait_until(lambda: received.numbers == [1, 2, 1])
    assert received.deliveries == [1, 1, 1]
    assert town.ask("dead") == []
    wait_until(lambda: len(others.numbers) >= 2)
    assert others.numbers == [1, 2]


class Together(Received):
    """A listener that gets batches, of which some fail."""

    def __init__(self, fails: Callable[[EventMessage], bool] = lambda message: False) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._fails = fails

    def note(self, messages: list[EventMessage]) -> None:
        for message in messages:
            self(message)
        self.sizes.append(len(messages))
        if failed := [message for message in messages if self._fails(message)]:
            raise BatchFailed(failed)


@pytest.mark.parametrize("event", ["sold", "opened", "seen"])
def test_events_are_delivered_in_batches(town: Town, door: Door, event: str) -> None:
    """With a key, without one and of best effort: all of them once; in order, and acknowledged, if stored."""
    received = Together()
    town.listen("mail", received.note, event, batch=20, batch_wait=5.0)
    arguments: dict[str, Any] = {"item": "tea"} if event == "sold" else {}
    for number in range(60):
        door.fire(getattr(town.shop.shop, event), number=number, **arguments)
    wait_until(lambda: len(received.messages) == 60)
    assert sorted(received.numbers) == list(range(60))
    assert (max(received.sizes), sum(received.sizes)) == (20, 60)
    if event != "seen":
        assert received.numbers == list(range(60))
        wait_until(lambda: town.ask("lag", api="shop", group="mail-desk") == 0)


def test_failed_events_of_a_batch_are_retried(town: Town) -> None:
    """They are delivered again one by one, and become dead letters; the others are not delivered twice."""
    received = Together(lambda message: message.kwargs["number"] % 10 == 7)
    town.listen("mail", received.note, batch=20, on_error=OnError.RETRY, max_deliveries=3)
    town.shop.shop.sold.fire_many([{"item": "tea", "number": number} for number in range(20)])
    wait_until(lambda: len(dead := town.ask("dead", group="mail-desk")) == 2 and dead)
    counts = Counter(received.numbers)
    assert (counts.pop(7), counts.pop(17), set(counts.values())) == (3, 3, {1})
    wait_until(lambda: town.ask("lag", api="shop", group="mail-desk") == 0)


def test_batches_of_members_that_share_a_group(town: Town) -> None:
    """Each event goes to one member, also while members join and leave."""
    first, second = Together(), Together()
    town.listen("stock", first.note, "opened", batch=10)
    leaving = town.listen("stock", second.note, "opened", batch=10)
    for start in range(0, 200, 50):
        town.shop.shop.opened.fire_many([{"number": start + number} for number in range(50)])
        if start == 100:
            leaving.client.close()
    wait_until(lambda: len(first.messages) + len(second.messages) == 200)
    assert Counter(first.numbers + second.numbers) == Counter(range(200))


def test_stopped_listener_leaves_its_events_to_the_group(town: Town) -> None:
    """A listener that fails for good leaves its group: another member gets the next events."""
    broken, working = Failing(lambda message: True), Received()
    town.listen("mail", broken, max_deliveries=1)
    town.shop.shop.sold.fire(item="tea", number=1)
    wait_until(lambda: town.ask("dead"))
    town.shop.shop.sold.fire(item="tea", number=2)
    other = town.bus("mail")
    other.shop.sold.listen(working, listener_name="desk")
    other.client.start_in_background()
    wait_until(lambda: working.numbers == [2])
    assert broken.numbers == [1]


def test_event_that_ended_a_worker_is_redelivered_with_its_count(town: Town) -> None:
    """With SHUTDOWN another member gets the event, with the delivery count."""
    broken, working = Failing(lambda message: True), Received()
    ended = town.listen("mail", broken, on_error=OnError.SHUTDOWN)
    town.shop.shop.sold.fire(item="tea", number=1)
    wait_until(lambda: broken.messages)
    ended.client.close()
    town.listen("mail", working)
    wait_until(lambda: working.numbers == [1])
    assert working.deliveries == [2]


@pytest.mark.parametrize("kind", ["all", "none", "id", "time"])
def test_new_group_starts_at_since(town: Town, kind: str) -> None:
    """With all kept events, with the next one, after an event, or at a time."""
    first, last = [town.shop.shop.sold.fire(item="tea", number=number) for number in (1, 2)]
    moment = datetime.fromtimestamp((first.published_at + last.published_at) / 2, UTC)
    since, expected = {"all": ("0", [1, 2]), "none": ("$", []), "id": (first.id, [2]), "time": (moment, [2])}[kind]
    received = Received()
    town.listen("mail", received, bus_options={"since": since})
    town.shop.shop.sold.fire(item="tea", number=3)
    wait_until(lambda: received.numbers == [*expected, 3])


def test_listener_without_a_group_gets_all_events(town: Town) -> None:
    """Each process gets every event while it listens, and no earlier ones."""
    town.shop.shop.sold.fire(item="tea", number=0)
    first, second = Received(), Received()
    town.listen("screen", first, group=None)
    town.listen("screen", second, group=None)
    for number in (1, 2):
        town.shop.shop.sold.fire(item="tea", number=number)
    wait_until(lambda: first.numbers == second.numbers == [1, 2])


def test_every_event_of_an_api_in_order(town: Town, event_settings: Settings) -> None:
    """
    A listener to `*` that handles one at a time gets those of each name in the order of firing, also of best effort.

    A backend orders the names among each other, too. A journal's publisher does not: it sends events of one topic that
    are fired in one tick together, and a listener may have handled them when those of another name in between arrive.
    """
    received = Received()
    town.listen("audit", received, event="*")
    for number in range(30):
        town.shop.shop.sold.fire(item=f"item{number}", number=2 * number)
        town.shop.shop.opened.fire(number=2 * number + 1)
    wait_until(lambda: len(received.messages) == 60)
    orders_names = event_settings["backend"] != "journal"
    assert (received.numbers if orders_names else sorted(received.numbers)) == list(range(60))
    for name, first in (("sold", 0), ("opened", 1)):
        numbers = [message.kwargs["number"] for message in received.messages if message.event_name == name]
        assert numbers == list(range(first, 60, 2))
    town.shop.shop.seen.fire(number=60)
    wait_until(lambda: received.numbers[-1] == 60)
    assert received.messages[-1].native_id == ""


def test_partitions_are_handled_concurrently(town: Town) -> None:
    """With `concurrency` one key does not wait for another."""
    together, begun, received = threading.Event(), Received(), Received()

    def handle(message: EventMessage) -> None:
        begun(message)
        if len(begun.messages) > len(received.messages) + 1:
            together.set()
        together.wait(60)
        received(message)

    town.listen("mail", handle, concurrency=4)
    for item in ("tea", "coffee", "milk", "sugar", "bread", "salt"):
        town.shop.shop.sold.fire(item=item, number=1)
    wait_until(lambda: len(received.messages) == 6, 30.0)
    assert together.is_set()


def test_firing_with_wait_for_ack_waits_for_all_groups(town: Town, door: Door) -> None:
    """It returns when every group has handled the event, also if the event was handed off."""
    received = Received()
    town.listen("mail", received)
    door.fire(town.shop.shop.sold, item="tea", number=1, bus_options={"wait_for": "ack"})
    assert received.numbers == [1]
    door.fire(town.bus("visitor").shop.sold, item="tea", number=2, bus_options={"wait_for": "ack"})
    assert received.numbers == [1, 2]


def test_history_and_lag(town: Town) -> None:
    """Any process can look up past events, between times; the lag of an absent group grows."""
    mail = town.listen("mail", Received())
    fired = [town.shop.shop.sold.fire(item="tea", number=number) for number in range(3)]
    town.shop.shop.opened.fire(number=9)
    visitor = town.bus("mail")
    wait_until(lambda: visitor.shop.sold.lag("desk") == 0)
    mail.client.close()
    town.shop.shop.sold.fire(item="tea", number=3)
    assert visitor.shop.sold.lag("desk") == 1
    assert [each.kwargs["number"] for each in visitor.shop.sold.history()] == [0, 1, 2, 3]
    newest = town.ask("history", api="shop", event="*", limit=2)
    assert [each["kwargs"]["number"] for each in newest] == [9, 3]
    within = visitor.shop.sold.history(start=fired[1].published_at, stop=fired[2].published_at)
    assert [(each.id, each.native_id) for each in within] == [(each.id, each.native_id) for each in fired[1:]]


def test_groups_are_listed_and_removed(town: Town) -> None:
    """With members and positions; a removed group gets no earlier events."""
    mail = town.listen("mail", Received())
    [group] = wait_until(lambda: town.ask("groups", api="shop"))
    assert (group["name"], group["events"]) == ("mail-desk", ["sold"])
    assert list(group["members"]) == [mail.client.engine.identity.instance]
    mail.client.close()
    town.shop.shop.sold.fire(item="tea", number=1)
    assert town.ask("lag", api="shop", group="mail-desk") == 1
    assert town.ask("remove_group", api="shop", group="mail-desk") is True
    assert town.ask("lag", api="shop", group="mail-desk") is None
    assert town.ask("remove_group", api="shop", group="mail-desk") is False
