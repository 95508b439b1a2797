"""The table of events that wait to be fired."""

from __future__ import annotations

from django.core.management import call_command

from helpers import wait_until
from lightbus import BusPath
from lightbus.testing import MemoryBus


def count() -> int:
    from lightbus.contrib.django.outbox.models import OutboxEvent

    return int(OutboxEvent.objects.count())


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
