"""Puts events into the outbox, in the transaction that runs."""

from __future__ import annotations

from typing import Any

from django.db import connections, router

from ....path import BusPath
from ...paths import client_of, place_of
from ...relay import CHANNEL

__all__ = ["fire"]


def fire(event: BusPath, /, *, using: str | None = None, **kwargs: Any) -> str:
    """
    Have an event fired once the transaction is committed, whatever is killed then; return its id.

    At once where there is none. It is the worker that fires it (`manage.py runlightbus`), at least once, and those of
    one API in the order in which they were put in.

    Args:
        event: its path, as `bus.store.order_placed`. Its API has to be registered in this process.
        using: the alias of the database whose transaction it is.
        kwargs: the arguments of the event.

    Raises UnknownApi and EventNotFound for what is no event of this process, and ValidationError, InvalidEventArguments
    and DeformError for wrong arguments: the transaction can still be rolled back.
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
                cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])  # when it is committed
    return message.id
