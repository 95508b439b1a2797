from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction

from helpers.clients import AuthApi
from lightbus import BusPath, UsageError, ValidationError
from lightbus.contrib.django import fire_on_commit
from lightbus.testing import MemoryBus, memory_bus


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def bus(hub: MemoryBus) -> BusPath:
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    hub.start(bus)
    return bus


def test_fired_behind_the_commit(hub: MemoryBus, bus: BusPath) -> None:
    """Nothing is fired before the outermost transaction is committed; and then with the arguments as they were."""
    fired: list[dict[str, Any]] = []
    bus.client.after_event_sent(lambda event_message: fired.append(event_message.kwargs))
    names = {"username": "ada"}
    with transaction.atomic():
        with transaction.atomic():
            fire_on_commit(bus.auth.user_registered, **names)
            names["username"] = "somebody else"
        assert fired == []
    assert fired == [{"username": "ada", "age": 18}]
    assert hub.wait_for_event("auth.user_registered").kwargs == fired[0]


def test_event_of_a_rolled_back_transaction_is_never_fired(bus: BusPath) -> None:
    """Also if it is rolled back to a savepoint only."""
    fired: list[str] = []
    bus.client.after_event_sent(lambda event_message: fired.append(event_message.kwargs["username"]))

    def fail(name: str) -> None:
        with transaction.atomic():
            fire_on_commit(bus.auth.user_registered, username=name)
            raise LookupError

    with pytest.raises(LookupError):
        fail("whole")
    with transaction.atomic():
        with pytest.raises(LookupError):
            fail("savepoint")
        fire_on_commit(bus.auth.user_registered, username="kept")
    fire_on_commit(bus.auth.user_registered, username="without a transaction")
    assert fired == ["kept", "without a transaction"]


def test_wrong_arguments_are_refused_before_the_commit(bus: BusPath) -> None:
    """So the transaction can still be rolled back. An object that is no event's path is refused, too."""
    with transaction.atomic():
        with pytest.raises(ValidationError, match="age"):
            fire_on_commit(bus.auth.user_registered, username="ada", age="old")
        with pytest.raises(UsageError, match=r"bus\.store\.order_placed"):
            fire_on_commit(bus, username="ada")
