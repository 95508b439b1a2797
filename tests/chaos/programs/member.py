"""A member of a consumer group: records each event from inside the handler."""

from __future__ import annotations

import os

import lightbus
from chaos import beset
from chaos.ledger import Ledger
from lightbus import EventMessage, OnError

beset.begin()
bus = lightbus.create(service_name=os.environ["CHAOS_GROUP"])
ledger = Ledger("handled")


async def on_changed(event_message: EventMessage, key: str, number: int) -> None:
    ledger.note(event_message.id, key, event_message.native_id, event_message.deliveries)


async def on_seen(event_message: EventMessage, number: int) -> None:
    ledger.note(event_message.id, "-", event_message.native_id, event_message.deliveries)


@bus.client.on_start()
def on_start() -> None:
    bus.store.changed.listen(on_changed, listener_name="changed", on_error=OnError.RETRY, max_deliveries=50)
    bus.store.seen.listen(on_seen, listener_name="seen", on_error=OnError.RETRY, max_deliveries=50)
