"""Events put into the outbox: in the transaction, or not at all."""

from __future__ import annotations

import pytest
from django.db import transaction

from helpers import wait_until
from lightbus import BusPath, UnknownApi, ValidationError
from lightbus.contrib.django import outbox
from lightbus.testing import MemoryBus


def count() -> int:
    from lightbus.contrib.django.outbox.models import OutboxEvent

    return int(OutboxEvent.objects.count())


def test_committed_and_rolled_back(hub: MemoryBus, bus: BusPath) -> None:
    """Committed events are fired by the project's worker, with the returned id; rolled back ones are not."""
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


def test_errors_come_before_the_commit(hub: MemoryBus, bus: BusPath) -> None:
    """Wrong arguments, and an API that this process has not registered."""
    with transaction.atomic():
        with pytest.raises(ValidationError, match="age"):
            outbox.fire(bus.auth.user_registered, username="ada", age="old")
        with pytest.raises(UnknownApi, match="Register it"):
            outbox.fire(bus.shop.ordered, product="lamp")
    assert count() == 0
