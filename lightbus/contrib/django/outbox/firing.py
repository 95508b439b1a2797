"""Put events into the outbox, in the current transaction."""

from __future__ import annotations

from typing import Any

from django.db import connections, router

from ....path import BusPath
from ...paths import client_of, place_of
from ...relay import CHANNEL

__all__ = ["fire"]


def fire(event: BusPath, /, *, using: str | None = None, **kwargs: Any) -> str:
    """
    Store an event to be fired once the transaction is committed, even if a process is killed then; return its id.

    Without a transaction it is committed at once. The worker fires it (`manage.py runlightbus`), at least once, and the
    events of one API in the order in which they were stored.

    Args:
        event: the path of the event, as `bus.store.order_placed`. Its API must be registered in this process.
        using: the alias of the transaction's database.
        kwargs: the arguments of the event.

    Raises UnknownApi and EventNotFound for a path that is no event of this process, and ValidationError,
    InvalidEventArguments and DeformError for invalid arguments: the transaction can still be rolled back.
    """
    from .models import OutboxEvent

    made = client_of(event).made_events
    api, name = place_of(event)
    message = made.make(api, name, kwargs, is_ours=True)
    alias = using or router.db_for_write(OutboxEvent)
    with made.storing(message):
        OutboxEvent.objects.using(alias).create(api=api, event=name, record=made.record(message))
        if connections[alias].vendor == "postgresql":
            with connections[alias].cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])  # sent at the commit
    return message.id
