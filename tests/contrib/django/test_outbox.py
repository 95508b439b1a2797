from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction

from helpers import wait_until
from helpers.clients import AuthApi
from lightbus import BusPath, UnknownApi, ValidationError
from lightbus.contrib import relay
from lightbus.contrib.django import outbox
from lightbus.contrib.django.project import connect
from lightbus.testing import MemoryBus, memory_bus


@pytest.fixture
def hub(database: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBus]:
    call_command("migrate", verbosity=0)
    monkeypatch.setattr(relay, "SLICE", 0.02)
    with memory_bus(observe=True) as hub:
        yield hub


@pytest.fixture
def bus(hub: MemoryBus) -> BusPath:
    bus = hub.create(service_name="auth")
    bus.client.register_api(AuthApi())
    connect(bus.client)
    return bus


def count() -> int:
    from lightbus.contrib.django.outbox.models import OutboxEvent

    return int(OutboxEvent.objects.count())


def test_committed_and_rolled_back(hub: MemoryBus, bus: BusPath) -> None:
    """What is committed is fired by the project's worker, with the id that was returned; what is rolled back is not."""
    with transaction.atomic():
        savepoint = transaction.savepoint()
        outbox.fire(bus.auth.user_registered, username="rolled back")
        transaction.savepoint_rollback(savepoint)
        id = outbox.fire(bus.auth.user_registered, username="ada")
    outbox.fire(bus.auth.user_registered, username="without a transaction")
    assert count() == 2
    hub.start(bus)
    assert hub.wait_for_event("auth.user_registered").id == id
    wait_until(lambda: count() == 0)
    kept = bus.auth.user_registered.history()
    assert [each.kwargs["username"] for each in kept] == ["ada", "without a transaction"]


def test_mistakes_are_told_before_the_commit(hub: MemoryBus, bus: BusPath) -> None:
    """Wrong arguments, and an API that this process has not registered."""
    with transaction.atomic():
        with pytest.raises(ValidationError, match="age"):
            outbox.fire(bus.auth.user_registered, username="ada", age="old")
        with pytest.raises(UnknownApi, match="Register it"):
            outbox.fire(bus.shop.ordered, product="lamp")
    assert count() == 0


def test_event_that_never_can_be_fired(hub: MemoryBus, bus: BusPath) -> None:
    """It stays in the table with its error, and is tried again once that is emptied."""
    from lightbus.contrib.django.outbox.models import OutboxEvent

    made = bus.client.made_events
    record = made.record(made.make("auth", "user_registered", {"username": "ada"}))
    OutboxEvent.objects.create(api="auth", event="renamed", record=record)
    hub.start(bus)
    wait_until(lambda: OutboxEvent.objects.exclude(error="").exists())
    assert "EventNotFound" in str(OutboxEvent.objects.get())
    OutboxEvent.objects.update(error="", event="user_registered")
    wait_until(lambda: count() == 0)
    assert [each.kwargs["username"] for each in bus.auth.user_registered.history()] == ["ada"]


def test_migrations_are_complete(hub: MemoryBus) -> None:
    """The model is what the migrations make."""
    call_command("makemigrations", "lightbus_outbox", check=True, dry_run=True, verbosity=0)
